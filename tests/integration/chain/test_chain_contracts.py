"""The contracts' own tests, a short run of them (`make test-contracts` runs the whole), and the pause, from the ABI."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import encode as abi_encode
from eth_hash.auto import keccak
from eth_utils.abi import get_abi_input_types
from web3.exceptions import ContractLogicError

from veil.chain import artifacts

pytestmark = pytest.mark.chain
CONTRACTS = Path(__file__).parents[3] / "contracts"
FORGE = CONTRACTS / "node_modules" / "@foundry-rs" / "forge-linux-amd64" / "bin" / "forge"

WORKS_WHILE_PAUSED = {
    "grantRole",
    "revokeRole",
    "renounceRole",
    "setRoleAdmin",
    "unpause",
    "upgradeToAndCall",
    "initialize",
}


def test_the_storage_layout_is_the_committed_one() -> None:
    done = subprocess.run(["node", "layout.js"], cwd=CONTRACTS, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.timeout(600)
def test_forge_finds_nothing_in_a_short_run() -> None:
    environment = {**os.environ, "FOUNDRY_PROFILE": "short"}
    done = subprocess.run(
        [FORGE, "test"], cwd=CONTRACTS, env=environment, capture_output=True, text=True, timeout=540, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


async def test_a_pause_stops_every_write_and_nothing_else(deployed: Any) -> None:
    admin = await deployed.client(0)
    await admin.set_paused(True)
    enforced = "0x" + bytes(keccak(b"EnforcedPause()")[:4]).hex()
    stopped = []
    for item in artifacts.load("VeilRegistry").abi:
        if item["type"] != "function" or item["name"] == "pause":
            continue
        types = get_abi_input_types(item)
        call = {
            "from": admin.operator,
            "to": deployed.registry,
            "data": "0x" + (_selector(item["name"], types) + abi_encode(types, [_empty(one) for one in types])).hex(),
        }
        try:
            await admin._w3.eth.call(call)
            refused = False
        except ContractLogicError as error:
            refused = str(error.data).startswith(enforced)
        writes = item["stateMutability"] not in ("view", "pure") and item["name"] not in WORKS_WHILE_PAUSED
        assert refused == writes, item["name"]
        stopped += [item["name"]] if refused else []
    assert len(stopped) > 30


def _selector(name: str, types: list[str]) -> bytes:
    return bytes(keccak(f"{name}({','.join(types)})".encode())[:4])


def _empty(kind: str) -> Any:
    """The least value of a type."""
    if kind.endswith("[]"):
        return []
    if kind.startswith("("):
        return tuple(_empty(one) for one in kind[1:-1].split(","))
    if kind == "address":
        return "0x" + "0" * 40
    if kind == "bool":
        return False
    return b"" if kind == "bytes" else bytes(int(kind[5:])) if kind.startswith("bytes") else 0
