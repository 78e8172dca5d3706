"""A simulated network of SWIM machines in virtual time, with real signatures."""

from collections.abc import Callable
from functools import partial

import pytest

from bench.mesh_sim import Network
from veil.identity import Identity
from veil.mesh.claims import KeySignatory
from veil.types import ClusterId, Secret

CLUSTER = ClusterId(b"c" * 32)


def identity(number: int) -> Identity:
    return Identity(Secret(number.to_bytes(32, "big")))


def signatory(number: int) -> KeySignatory:
    return KeySignatory(identity(number), CLUSTER)


@pytest.fixture
def simulate() -> Callable[..., Network]:
    return partial(Network, signatory=signatory)
