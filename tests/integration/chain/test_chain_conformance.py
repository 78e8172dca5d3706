"""The real client on a real registry does what every Chain must."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from chain_conformance import CASES

pytestmark = pytest.mark.chain


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
async def test_registry(case: Callable[[Any], Awaitable[None]], deployed: Any) -> None:
    await case(deployed)
