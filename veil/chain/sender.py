"""One account's transactions: estimate, then under a lock nonce, sign, send; then wait for the receipt.

Reverts surface at the estimate, before a nonce is taken. The nonce is read anew for every transaction: a cached one goes
wrong when a reorg takes transactions back or another process uses the key, and reading it costs one round trip. Whoever
loses a race for a nonce takes the next one. While it waits it looks whether its transaction was replaced (then it
sends a new one) or forgotten (then it sends the same again).
"""

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

from eth_hash.auto import keccak
from hexbytes import HexBytes
from web3 import AsyncWeb3
from web3.exceptions import TransactionNotFound, Web3Exception, Web3RPCError
from web3.types import TxParams, TxReceipt

from veil.chain import reverts
from veil.chain.endpoint import AWAY, reach
from veil.chain.signer import Signer
from veil.errors import ChainUnavailable, DeadlineExceeded, Refused, VeilError
from veil.types import Address, Clock, SystemClock

logger = logging.getLogger(__name__)

DEADLINE_S = 60.0
"""How long a transaction may take to be mined."""

NONCE_ATTEMPTS = 16
"""How often a transaction is signed anew because another took its nonce."""

GAS_MARGIN = 1.3
"""Over the estimate: the state may have changed for the dearer (a slot that was set is empty again)."""

OUT_OF_GAS_SHARE = 0.95
"""A failed transaction that used this much of its limit ran out of gas: each call withholds 1/64 (EIP-150), the proxy is one."""

POLL_FIRST_S = 0.02
POLL_LAST_S = 0.5
"""Between looks for a receipt: the first ones are quick for chains that mine at once."""

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


class Sender:
    """One per key and process (several work too: they only race)."""

    def __init__(self, w3: AsyncWeb3[Any], signer: Signer, *, deadline_s: float = DEADLINE_S, clock: Clock | None = None) -> None:
        self._w3 = w3
        self._signer = signer
        self._deadline_s = deadline_s
        self._clock = clock or SystemClock()
        self._lock = asyncio.Lock()
        self._chain_id: int | None = None

    async def send(self, to: Address | None, data: bytes, *, gas: int | None = None) -> SentReceipt:
        """Mined and successful, or an error: the contract's (:mod:`veil.chain.reverts`), ChainUnavailable,
        DeadlineExceeded (it may still be mined), Refused (no ether)."""
        call: dict[str, Any] = {"from": self._signer.address, "data": HexBytes(data), "value": 0}
        if to is not None:
            call["to"] = to
        limit = gas or await self._estimate(call)
        deadline = self._clock.monotonic_s() + self._deadline_s
        for _ in range(NONCE_ATTEMPTS):
            raw, nonce = await self._submit(call, limit)
            receipt = await self._wait(raw, nonce, deadline)
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
            return await self._w3.eth.estimate_gas(_params(call))

        return int(await reach(ask) * GAS_MARGIN)

    async def _submit(self, call: dict[str, Any], gas: int) -> tuple[bytes, int]:
        """Take a nonce, sign, broadcast."""
        for attempt in range(NONCE_ATTEMPTS):
            async with self._lock:
                transaction = await self._complete(call, gas)
                raw = await self._signer.sign_transaction(transaction)
                try:
                    await self._broadcast(raw)
                except _NonceTaken:
                    logger.debug("nonce %d was taken, attempt %d", transaction["nonce"], attempt)
                else:
                    return raw, transaction["nonce"]
            await asyncio.sleep(0.005 * (attempt + 1))
        raise ChainUnavailable(
            f"{self._signer.address}: no free nonce in {NONCE_ATTEMPTS} attempts", hint="is another program using this key?"
        )

    async def _complete(self, call: dict[str, Any], gas: int) -> dict[str, Any]:
        async def ask() -> tuple[int, int, int]:
            if self._chain_id is None:
                self._chain_id = await self._w3.eth.chain_id
            nonce, block, tip = await asyncio.gather(
                self._w3.eth.get_transaction_count(_checksum(self._signer.address), "pending"),
                self._w3.eth.get_block("latest"),
                self._w3.eth.max_priority_fee,
            )
            return int(nonce), int(block["baseFeePerGas"]), int(tip)

        nonce, base, tip = await reach(ask)
        fees = {"maxFeePerGas": 2 * base + tip, "maxPriorityFeePerGas": tip}
        return {**call, **fees, "type": 2, "chainId": self._chain_id, "gas": gas, "nonce": nonce}

    async def _broadcast(self, raw: bytes) -> None:
        """Hand a signed transaction to the endpoint; the same one twice is no error. Raises _NonceTaken."""

        async def ask() -> None:
            try:
                await self._w3.eth.send_raw_transaction(HexBytes(raw))
            except Web3RPCError as error:
                text = str(error).lower()
                if "already known" in text or "already imported" in text:
                    return
                if "nonce too low" in text or "underpriced" in text:
                    if await self._exists(bytes(keccak(raw))):
                        return
                    raise _NonceTaken from error
                if "insufficient funds" in text:
                    raise Refused(f"{self._signer.address} cannot pay for the gas", hint="send ether to it") from error
                raise

        await reach(ask)

    async def _exists(self, tx_hash: bytes) -> bool:
        try:
            await self._w3.eth.get_transaction(HexBytes(tx_hash))
        except TransactionNotFound:
            return False
        return True

    async def _wait(self, raw: bytes, nonce: int, deadline: float) -> TxReceipt | None:
        """The receipt, or None when another transaction used the nonce."""
        tx_hash = HexBytes(keccak(raw))
        pause, checked = POLL_FIRST_S, self._clock.monotonic_s()
        while True:
            receipt = await self._receipt(tx_hash)
            if receipt is not None:
                return receipt
            now = self._clock.monotonic_s()
            if now > deadline:
                raise DeadlineExceeded(
                    f"transaction 0x{tx_hash.hex().removeprefix('0x')} is not mined after {self._deadline_s:.0f} s",
                    hint="it may still be: look at the object again before you repeat it",
                )
            if now - checked > CHECK_EVERY_S:
                checked = now
                if not await self._pending(raw, nonce):
                    return await self._receipt(tx_hash)
            await asyncio.sleep(pause)
            pause = min(pause * 1.3, POLL_LAST_S)

    async def _pending(self, raw: bytes, nonce: int) -> bool:
        """Whether it can still be mined; sends it again in case that it was forgotten."""

        async def ask() -> int:
            return await self._w3.eth.get_transaction_count(_checksum(self._signer.address), "latest")

        if await reach(ask) > nonce:
            return False
        try:
            await self._broadcast(raw)
        except _NonceTaken:
            return True
        return True

    async def _receipt(self, tx_hash: HexBytes) -> TxReceipt | None:
        async def ask() -> TxReceipt | None:
            try:
                return await self._w3.eth.get_transaction_receipt(tx_hash)
            except TransactionNotFound:
                return None

        return await reach(ask)

    async def _why(self, call: dict[str, Any], receipt: TxReceipt) -> VeilError:
        """Why a mined transaction reverted, by asking for it again on top of its block."""
        try:
            await self._w3.eth.call(_params(call), receipt["blockNumber"])
        except Web3Exception as error:
            known = reverts.from_web3(error)
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
