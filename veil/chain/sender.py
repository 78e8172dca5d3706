"""One account's transactions: estimate, then under a lock nonce, sign, send; then wait for the receipt.

Reverts surface at the estimate, before a nonce is taken. The nonce is read anew for every transaction: a cached one goes
wrong when a reorg takes transactions back or another process uses the key, and reading it costs one round trip. Whoever
loses a race for a nonce takes the next one. While it waits it looks what became of its transaction: somebody used the
nonce (then it sends a new one), the pool forgot it (the same again), it stays there (the same with higher fees, within
bounds), or an earlier nonce is used by nobody (then it sends nothing to itself there, so that its own can be mined).
"""

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

from eth_hash.auto import keccak
from hexbytes import HexBytes
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_incrementing
from web3 import AsyncWeb3
from web3.exceptions import TransactionNotFound, Web3Exception, Web3RPCError
from web3.types import TxParams, TxReceipt

from veil.chain import reverts
from veil.chain.endpoint import AWAY, reach
from veil.chain.flight import GAP_FILLS_MAX, Fees, Flight
from veil.chain.signer import Signer
from veil.errors import ChainUnavailable, DeadlineExceeded, Refused, VeilError
from veil.types import Address, Clock, SystemClock

logger = logging.getLogger(__name__)

DEADLINE_S = 60.0
"""How long a transaction may take to be mined."""

REPLACE_AFTER_S = 15.0
"""How long one version of a transaction is waited for before it is replaced: a slot of 12 s, and time to hear of it."""

NONCE_ATTEMPTS = 16
"""How often a transaction is signed anew because another took its nonce."""

GAS_MARGIN = 1.3
"""Over the estimate: the state may have changed for the dearer (a slot that was set is empty again)."""

OUT_OF_GAS_SHARE = 0.95
"""A failed transaction that used this much of its limit ran out of gas: each call withholds 1/64 (EIP-150), the proxy is one."""

POLL_FIRST_S = 0.02
POLL_LAST_S = 0.5
"""Between looks for a receipt: the first ones are quick for chains that mine at once."""

RECEIPT_LOOKS = 4
"""How often a receipt is looked for after its nonce was used, before another transaction is thought to have it."""

CHECK_EVERY_S = 2.0
"""How often a waiting transaction is looked for in the pool."""


@dataclass(frozen=True, slots=True)
class SentReceipt:
    """A mined transaction that succeeded."""

    tx_hash: bytes
    block: int
    gas_used: int
    contract: Address | None
    logs: tuple[Any, ...]


class _NonceTaken(Exception):
    """Another transaction has this nonce."""


class _TooCheap(Exception):
    """Blocks cost more than it offers."""


class Sender:
    """One per key and process (several work too: they only race)."""

    def __init__(
        self,
        w3: AsyncWeb3[Any],
        signer: Signer,
        *,
        deadline_s: float = DEADLINE_S,
        replace_after_s: float = REPLACE_AFTER_S,
        check_every_s: float = CHECK_EVERY_S,
        clock: Clock | None = None,
    ) -> None:
        self.w3 = w3
        self._signer = signer
        self._deadline_s = deadline_s
        self._replace_after_s = replace_after_s
        self._check_every_s = check_every_s
        self._clock = clock or SystemClock()
        self._lock = asyncio.Lock()
        self._chain_id: int | None = None

    async def send(self, to: Address | None, data: bytes, *, value_wei: int = 0, gas: int | None = None) -> SentReceipt:
        """Mined and successful, or an error: the contract's (:mod:`veil.chain.reverts`), ChainUnavailable,
        DeadlineExceeded (it may still be mined), Refused (no ether)."""
        call: dict[str, Any] = {"from": self._signer.address, "data": HexBytes(data), "value": value_wei}
        if to is not None:
            call["to"] = to
        limit = gas or await self._estimate(call)
        deadline = self._clock.monotonic_s() + self._deadline_s
        for _ in range(NONCE_ATTEMPTS):
            receipt = await self._wait(await self._submit(call, limit), deadline)
            if receipt is None:
                continue
            if receipt["status"] == 1:
                return _sent(receipt)
            if gas is None and receipt["gasUsed"] >= limit * OUT_OF_GAS_SHARE:
                gas, limit = limit, limit * 2
                continue
            raise await self._why(call, receipt)
        raise ChainUnavailable(
            f"{self._signer.address}: {NONCE_ATTEMPTS} transactions in a row lost their nonce or their gas",
            hint="is another program sending with the same key all the time?",
        )

    async def _estimate(self, call: dict[str, Any]) -> int:
        async def ask() -> int:
            return await self.w3.eth.estimate_gas(_params(call))

        return int(await reach(ask, call=bytes(call["data"])) * GAS_MARGIN)

    # sending

    async def _submit(self, call: dict[str, Any], gas: int) -> Flight:
        """Take a nonce, sign, broadcast."""
        try:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type((_NonceTaken, _TooCheap)),
                stop=stop_after_attempt(NONCE_ATTEMPTS),
                wait=wait_incrementing(0.005, 0.005),
                reraise=True,
            ):
                with attempt:
                    return await self._take(call, gas)
        except (_NonceTaken, _TooCheap) as error:
            raise ChainUnavailable(
                f"{self._signer.address}: no transaction was taken in {NONCE_ATTEMPTS} attempts",
                hint="is another program using this key? Do fees rise by the second?",
            ) from error
        raise AssertionError("unreachable: AsyncRetrying returns or raises")

    async def _take(self, call: dict[str, Any], gas: int) -> Flight:
        async with self._lock:
            nonce, fees = await self._market()
            return await self._launch(call | {"gas": gas, "nonce": nonce}, fees)

    async def _launch(self, call: dict[str, Any], fees: Fees) -> Flight:
        transaction = {
            **call,
            "type": 2,
            "chainId": self._chain_id,
            "maxFeePerGas": fees.most,
            "maxPriorityFeePerGas": fees.tip,
        }
        raw = await self._signer.sign_transaction(transaction)
        await self._broadcast(raw)
        return Flight(transaction, raw, self._clock.monotonic_s())

    async def _market(self) -> tuple[int, Fees]:
        """The next free nonce, and what a block costs now."""

        async def ask() -> tuple[int, Fees]:
            if self._chain_id is None:
                self._chain_id = await self.w3.eth.chain_id
            nonce, block, tip = await asyncio.gather(
                self._nonce("pending"), self.w3.eth.get_block("latest"), self.w3.eth.max_priority_fee
            )
            return nonce, Fees.of_market(int(block["baseFeePerGas"]), int(tip))

        return await reach(ask)

    async def _nonce(self, block: Any) -> int:
        return int(await self.w3.eth.get_transaction_count(_checksum(self._signer.address), block))

    async def _broadcast(self, raw: bytes) -> None:
        """Hand a signed transaction to the endpoint; the same one twice is no error. Raises _NonceTaken, _TooCheap."""

        async def ask() -> None:
            try:
                await self.w3.eth.send_raw_transaction(HexBytes(raw))
            except Web3RPCError as error:
                text = str(error).lower()
                if "already known" in text or "already imported" in text:
                    return
                if "nonce too low" in text or "underpriced" in text:
                    if await self._exists(bytes(keccak(raw))):
                        return
                    raise _NonceTaken from error
                if "less than block base fee" in text:
                    raise _TooCheap from error
                if "insufficient funds" in text:
                    raise Refused(f"{self._signer.address} cannot pay for the gas", hint="send ether to it") from error
                raise

        await reach(ask)

    async def _exists(self, tx_hash: bytes) -> bool:
        try:
            await self.w3.eth.get_transaction(HexBytes(tx_hash))
        except TransactionNotFound:
            return False
        return True

    # waiting

    async def _wait(self, flight: Flight, deadline: float) -> TxReceipt | None:
        """The receipt, or None when another transaction used the nonce."""
        pause, checked = POLL_FIRST_S, self._clock.monotonic_s()
        while True:
            receipt = await self._mined(flight)
            if receipt is not None:
                return receipt
            now = self._clock.monotonic_s()
            if now > deadline:
                raise DeadlineExceeded(
                    f"transaction {flight.hashes[0].to_0x_hex()} is not mined after {self._deadline_s:.0f} s",
                    hint="it may still be: look at the object again before you repeat it",
                )
            if now - checked > self._check_every_s:
                checked = now
                if not await self._can_be_mined(flight):
                    return await self._settled(flight)
            if now - flight.sent_s > self._replace_after_s:
                await self._replace(flight)
            await asyncio.sleep(pause)
            pause = min(pause * 1.3, POLL_LAST_S)

    async def _settled(self, flight: Flight) -> TxReceipt | None:
        """The receipt once its nonce is used. Nodes count a nonce before they know the receipt: it is looked for again."""
        for look in range(RECEIPT_LOOKS):
            receipt = await self._mined(flight)
            if receipt is not None:
                return receipt
            await asyncio.sleep(POLL_LAST_S * look)
        return None

    async def _mined(self, flight: Flight) -> TxReceipt | None:
        receipts = await asyncio.gather(*(self._receipt(tx_hash) for tx_hash in flight.hashes))
        return next((receipt for receipt in receipts if receipt is not None), None)

    async def _receipt(self, tx_hash: HexBytes) -> TxReceipt | None:
        async def ask() -> TxReceipt | None:
            try:
                return await self.w3.eth.get_transaction_receipt(tx_hash)
            except TransactionNotFound:
                return None

        return await reach(ask)

    async def _can_be_mined(self, flight: Flight) -> bool:
        """Whether it still can; sends it again in case that it was forgotten, and fills a gap before it."""

        async def ask() -> tuple[int, int]:
            used, free = await asyncio.gather(self._nonce("latest"), self._nonce("pending"))
            return used, free

        used, free = await reach(ask)
        if used > flight.nonce:
            return False
        try:
            await self._broadcast(flight.raw)
        except _NonceTaken:
            return True
        except _TooCheap:
            await self._replace(flight)
            return True
        # Seen twice, because whoever has that nonce sends it again by itself.
        if free < flight.nonce and free == flight.gap_seen and flight.gap_fills < GAP_FILLS_MAX:
            await self._fill(free, flight)
        flight.gap_seen = free if free < flight.nonce else None
        return True

    async def _fill(self, nonce: int, flight: Flight) -> None:
        logger.warning("%s: nonce %d is used by no transaction: filling it", self._signer.address, nonce)
        flight.gap_fills += 1
        call: dict[str, Any] = {"from": self._signer.address, "to": self._signer.address, "data": HexBytes(b""), "value": 0}
        _, fees = await self._market()
        try:
            await self._launch(call | {"gas": await self._estimate(call), "nonce": nonce}, fees)
        except (_NonceTaken, _TooCheap):
            logger.debug("nonce %d cannot be filled now", nonce)

    async def _replace(self, flight: Flight) -> None:
        """The same nonce with higher fees, unless that is once too often or too dear."""
        _, market = await self._market()
        fees = flight.next_fees(market)
        flight.sent_s = self._clock.monotonic_s()
        if fees is None:
            return
        changes = {"maxFeePerGas": fees.most, "maxPriorityFeePerGas": fees.tip}
        transaction = flight.transaction | changes
        raw = await self._signer.sign_transaction(transaction)
        try:
            await self._broadcast(raw)
        except (_NonceTaken, _TooCheap):
            return
        except Refused as error:
            logger.warning("not replaced: %s", error.message)
            return
        logger.info("transaction with nonce %d replaced: up to %d wei per gas", flight.nonce, fees.most)
        flight.replaced(transaction, raw, self._clock.monotonic_s())

    async def _why(self, call: dict[str, Any], receipt: TxReceipt) -> VeilError:
        """Why a mined transaction reverted, by asking for it again on top of its block."""
        try:
            await self.w3.eth.call(_params(call), receipt["blockNumber"])
        except Web3Exception as error:
            known = reverts.from_web3(error, bytes(call["data"]))
            if known is not None:
                return known
        except AWAY:
            logger.debug("the endpoint left before it told why a transaction reverted")
        return Refused(
            f"transaction 0x{bytes(receipt['transactionHash']).hex()} was reverted, and would not be now",
            hint="somebody was faster: read again, then repeat",
        )


def _params(call: dict[str, Any]) -> TxParams:
    return call  # type: ignore[return-value]  # web3's TypedDict spells "from" in a way that no literal can


def _checksum(address: Address) -> Any:
    return address


def _sent(receipt: TxReceipt) -> SentReceipt:
    contract = receipt.get("contractAddress")
    return SentReceipt(
        bytes(receipt["transactionHash"]),
        int(receipt["blockNumber"]),
        int(receipt["gasUsed"]),
        Address(contract) if contract else None,
        tuple(receipt["logs"]),
    )
