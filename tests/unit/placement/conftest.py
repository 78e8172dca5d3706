"""Makes the simulator beside the tests importable, and says at the end what it has looked at."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True, scope="session")
def _tally():
    from placement_nodes import FIRST_SEED, TALLY

    yield
    print(f"\nfrom seed {FIRST_SEED}: " + ", ".join(f"{count} {what}" for what, count in TALLY.items()))


@pytest.fixture
def table():
    """A cluster of four nodes with one workload, at the moment before its round."""
    from placement_table import Table

    return Table()
