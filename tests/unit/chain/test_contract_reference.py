"""docs/reference/contract.md is what the artifact and the sources say; the slots of storage are what their names say."""

import importlib.util
import re
from pathlib import Path

import pytest
from eth_hash.auto import keccak

pytestmark = pytest.mark.unit
ROOT = Path(__file__).parents[3]


def test_the_reference_is_current() -> None:
    spec = importlib.util.spec_from_file_location("contract_reference", ROOT / "contracts" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text() == module.page(), "run `make contracts`"


def test_slots_are_those_of_their_namespaces() -> None:
    """ERC-7201, which the compiler does not check."""
    source = (ROOT / "contracts" / "src" / "Storage.sol").read_text()
    slots = dict(re.findall(r"bytes32 constant (\w+)_SLOT = 0x([0-9a-f]{64});", source))
    assert len(slots) == 8
    for name, slot in slots.items():
        number = int.from_bytes(keccak(b"veil." + name.lower().encode()), "big") - 1
        assert int(slot, 16) == int.from_bytes(keccak(number.to_bytes(32, "big")), "big") & ~0xFF, name
