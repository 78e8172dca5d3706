"""The compiled contracts: inside the wheel, or in ``contracts/artifacts`` of a checkout."""

import functools
import json
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from veil.errors import ConfigInvalid


@dataclass(frozen=True)
class Artifact:
    """One contract: its ABI (JSON) and the code that deploys it."""

    name: str
    abi: list[dict[str, Any]]
    bytecode: bytes


@functools.cache
def load(name: str) -> Artifact:
    """The artifact ``name`` (``VeilRegistry``, ``ERC1967Proxy``). Raises ConfigInvalid when it is nowhere."""
    package = resources.files("veil")
    places: list[Traversable] = [package / "contracts" / "artifacts", Path(__file__).parents[2] / "contracts" / "artifacts"]
    for place in places:
        file = place / f"{name}.json"
        if file.is_file():
            value = json.loads(file.read_text())
            return Artifact(name, value["abi"], bytes.fromhex(value["bytecode"][2:]))
    raise ConfigInvalid(f"the contract artifact {name}.json is missing", hint="`make contracts` writes it")
