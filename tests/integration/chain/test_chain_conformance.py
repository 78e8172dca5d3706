"""The real client on a real registry does what every Chain must."""

import importlib.util
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.chain


def _cases() -> list[Callable[[Any], Awaitable[None]]]:
    spec = importlib.util.spec_from_file_location("chain_conformance", Path(__file__).with_name("conformance.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return list(module.CASES)


@pytest.mark.parametrize("case", _cases(), ids=lambda case: case.__name__)
async def test_registry(case: Callable[[Any], Awaitable[None]], deployed: Any) -> None:
    await case(deployed)
