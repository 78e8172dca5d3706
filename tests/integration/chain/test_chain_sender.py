"""Transactions that get stuck: too cheap, forgotten, behind a nonce that nobody uses. On a real pool that mines when told to."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from veil.chain.devchain import DevChain
from veil.chain.endpoints import Endpoints
from veil.chain.flight import FEE_GROWTH_MAX, FEE_STEP, REPLACEMENTS_MAX
from veil.chain.provider import connect
from veil.chain.rpc import Rpc
from veil.chain.sender import Sender
from veil.chain.signer import LocalSigner
from veil.errors import DeadlineExceeded
from veil.types import Address

pytestmark = pytest.mark.chain
NOBODY = Address("0x" + "22" * 20)


class HandClock:
    """Moves when it is set, and by ``step_s`` whenever it is read."""

    def __init__(self, step_s: float = 0.0) -> None:
        self.s = 0.0
        self._step_s = step_s

    def now_s(self) -> float:
        return self.monotonic_s()

    def monotonic_s(self) -> float:
        self.s += self._step_s
        return self.s


@dataclass
class Pool:
    """An anvil that mines only when it is told to, and one account."""

    chain: DevChain
    rpc: Rpc
    signer: LocalSigner
    w3: Any

    def sender(self, **settings: Any) -> Sender:
        return Sender(self.w3, self.signer, **settings)

    async def mine(self, *, base_fee: int = 0) -> None:
        if base_fee:
            await self.rpc.find(object, "anvil_setNextBlockBaseFeePerGas", hex(base_fee))
        await self.rpc.find(object, "anvil_mine", "0x1")

    async def base_fee(self) -> int:
        block = await self.rpc.call(dict[str, Any], "eth_getBlockByNumber", "latest", False)
        return int(block["baseFeePerGas"], 16)

    async def nonce(self, block: str = "latest") -> int:
        return int(await self.rpc.call(str, "eth_getTransactionCount", self.signer.address, block), 16)

    async def waiting(self) -> list[dict[str, Any]]:
        """The pool's transactions, executable or not, by nonce."""
        content = await self.rpc.call(dict[str, Any], "txpool_content")
        found = [tx for part in content.values() for by_nonce in part.values() for tx in by_nonce.values()]
        return sorted(found, key=lambda tx: int(tx["nonce"], 16))

    async def until_waiting(self, count: int) -> list[dict[str, Any]]:
        async with asyncio.timeout(10):
            while len(found := await self.waiting()) < count:
                await asyncio.sleep(0.02)
        return found


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[Pool]:
    chain = DevChain(tmp_path / "chain")
    await chain.start()
    signer = LocalSigner.generate()
    await chain.fund(signer.address)
    rpc, endpoints = Rpc(chain.rpc_url), Endpoints([chain.rpc_url], NOBODY)
    await rpc.find(object, "evm_setIntervalMining", 0)
    await rpc.find(object, "evm_setAutomine", False)
    w3 = connect(endpoints)
    yield Pool(chain, rpc, signer, w3)
    await w3.provider.disconnect()
    await endpoints.close()
    await rpc.close()
    await chain.stop()


async def test_a_stuck_transaction_is_replaced_with_higher_fees(pool: Pool) -> None:
    sending = asyncio.create_task(pool.sender(replace_after_s=0.3).send(NOBODY, b""))
    (first,) = await pool.until_waiting(1)
    async with asyncio.timeout(10):
        while (now := (await pool.until_waiting(1))[0])["hash"] == first["hash"]:
            await asyncio.sleep(0.02)
    for fee in ("maxFeePerGas", "maxPriorityFeePerGas"):
        assert int(now[fee], 16) >= FEE_STEP * int(first[fee], 16)
    assert int(now["nonce"], 16) == int(first["nonce"], 16) == 0
    await pool.mine()
    receipt = await sending
    mined = await pool.rpc.call(dict[str, Any], "eth_getTransactionByHash", "0x" + receipt.tx_hash.hex())
    assert int(mined["maxFeePerGas"], 16) >= int(now["maxFeePerGas"], 16)
    assert await pool.nonce() == 1, "one of the versions was mined, and only one"


async def test_one_that_became_too_cheap_while_it_was_forgotten_is_replaced(pool: Pool) -> None:
    sending = asyncio.create_task(pool.sender(check_every_s=0.2).send(NOBODY, b""))
    (first,) = await pool.until_waiting(1)
    base = await pool.base_fee()
    await pool.rpc.find(object, "anvil_dropTransaction", first["hash"])
    await pool.mine(base_fee=3 * base)
    async with asyncio.timeout(10):
        while int((now := (await pool.until_waiting(1))[0])["maxFeePerGas"], 16) < 3 * base:
            await pool.rpc.find(object, "anvil_dropTransaction", now["hash"])
    await pool.mine()
    assert "0x" + (await sending).tx_hash.hex() == now["hash"]


async def test_an_older_version_may_be_the_one_that_is_mined(pool: Pool) -> None:
    """By a miner who never heard of the replacement."""
    clock = HandClock()
    sending = asyncio.create_task(pool.sender(replace_after_s=1.0, check_every_s=60, clock=clock).send(NOBODY, b""))
    (first,) = await pool.until_waiting(1)
    raw = await pool.rpc.call(str, "eth_getRawTransactionByHash", first["hash"])
    clock.s = 2.0  # once only: a second replacement would take the place of the first version again
    async with asyncio.timeout(10):
        while (second := (await pool.until_waiting(1))[0])["hash"] == first["hash"]:
            await asyncio.sleep(0.02)
    await pool.rpc.find(object, "anvil_dropTransaction", second["hash"])
    await pool.rpc.find(object, "eth_sendRawTransaction", raw)
    await pool.mine()
    assert "0x" + (await sending).tx_hash.hex() == first["hash"]


async def test_fees_grow_within_bounds(pool: Pool) -> None:
    """Also when nothing is ever mined."""
    sending = asyncio.create_task(pool.sender(replace_after_s=0.05, deadline_s=1.5, clock=HandClock(0.06)).send(NOBODY, b""))
    (first,) = await pool.until_waiting(1)
    with pytest.raises(DeadlineExceeded, match="not mined"):
        await sending
    (last,) = await pool.waiting()
    growth = int(last["maxFeePerGas"], 16) / int(first["maxFeePerGas"], 16)
    assert growth * 1.001 >= FEE_STEP**REPLACEMENTS_MAX
    assert growth <= min(FEE_GROWTH_MAX, FEE_STEP**REPLACEMENTS_MAX * 1.001)


async def test_a_forgotten_transaction_is_sent_again(pool: Pool) -> None:
    sending = asyncio.create_task(pool.sender(check_every_s=0.2).send(NOBODY, b""))
    (first,) = await pool.until_waiting(1)
    await pool.rpc.find(object, "anvil_dropTransaction", first["hash"])
    assert (await pool.until_waiting(1))[0]["hash"] == first["hash"]
    await pool.mine()
    await sending


async def test_a_nonce_that_nobody_uses_is_filled(pool: Pool) -> None:
    """Another program with the same key sent a transaction, ours came after it, then the pool lost the other's."""
    other = asyncio.create_task(pool.sender(check_every_s=60, replace_after_s=60).send(NOBODY, b"\1"))
    (lost,) = await pool.until_waiting(1)
    sending = asyncio.create_task(pool.sender(check_every_s=0.2).send(NOBODY, b"\2"))
    await pool.until_waiting(2)
    other.cancel()
    await pool.rpc.find(object, "anvil_dropTransaction", lost["hash"])
    filler, ours = await pool.until_waiting(2)
    assert (filler["to"], int(filler["value"], 16)) == (pool.signer.address.lower(), 0)
    assert ours["input"] == "0x02"
    await pool.mine()
    await sending
    assert await pool.nonce() == 2


async def test_a_used_nonce_is_not_waited_for(pool: Pool) -> None:
    """Another program replaced ours: it is sent again with the next nonce."""
    sending = asyncio.create_task(pool.sender(check_every_s=0.2).send(NOBODY, b"\1"))
    (ours,) = await pool.until_waiting(1)
    fees = {name: 3 * int(ours[name], 16) for name in ("maxFeePerGas", "maxPriorityFeePerGas")}
    theirs = {"to": NOBODY, "value": 0, "data": b"\2", "gas": 50_000, "nonce": 0, "chainId": int(ours["chainId"], 16), "type": 2}
    raw = await pool.signer.sign_transaction(theirs | fees)
    await pool.rpc.find(object, "eth_sendRawTransaction", "0x" + raw.hex())
    await pool.mine()
    (again,) = await pool.until_waiting(1)
    assert (again["input"], int(again["nonce"], 16)) == ("0x01", 1)
    await pool.mine()
    await sending
