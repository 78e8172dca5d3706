"""docs/reference/gas.md says what the contracts cost now."""

import re
from pathlib import Path

import pytest

from bench import chain as bench

pytestmark = pytest.mark.chain
PAGE = Path(__file__).parents[3] / "docs" / "reference" / "gas.md"
TOLERANCE = 0.01
"""Zero bytes in signatures and digests make a difference of some tens of gas."""


async def test_the_page_of_gas_is_up_to_date() -> None:
    async def measured(one: bench.Bench) -> bench.Gas:
        await one.fill(bench.FEW)  # the first node and the first object set slots that later ones only change
        return await one.operations("few")

    gas = await bench.with_registry(measured)
    written = {name: int(told.replace(",", "")) for name, told in re.findall(r"^\| (\w+) \| ([\d,]+) \|", PAGE.read_text(), re.M)}
    stale = {name: (written.get(name), cost) for name, cost in gas.items() if abs(written.get(name, 0) / cost - 1) > TOLERANCE}
    assert stale == {}, "python -m bench.chain --markdown > docs/reference/gas.md"
    assert set(written) == set(gas)
