"""A key that is elsewhere: a signing server that speaks Ethereum's JSON-RPC (web3signer, clef, geth's own accounts).

``eth_signTransaction`` and ``eth_signTypedData`` are all that is asked of it. What it gives back is checked: a server that
signs with another key, or something else than it was asked to, is refused before anything is sent.
"""

from typing import Any

import msgspec
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_utils.address import is_address, to_checksum_address
from hexbytes import HexBytes

from veil.chain.rpc import Rpc, RpcRefused
from veil.errors import ChainUnavailable, ConfigInvalid, SignatureInvalid
from veil.types import Address

SIGN_DEADLINE_S = 10.0
"""How long one signature may take."""

_TYPED = ("eth_signTypedData", "eth_signTypedData_v4")
"""web3signer and clef know the first, geth-like nodes the second."""

_SIGNED_FIELDS = ("chainId", "data", "gas", "maxFeePerGas", "maxPriorityFeePerGas", "nonce", "to", "value")


class _Filled(msgspec.Struct):
    """What some servers give instead of the raw bytes alone."""

    raw: str


class RemoteSigner:
    """The account ``address`` of the server at ``url``."""

    def __init__(self, url: str, address: Address) -> None:
        self.address = address
        self._rpc = Rpc(url, deadline_s=SIGN_DEADLINE_S)

    async def sign_transaction(self, transaction: dict[str, Any]) -> bytes:
        """See :class:`veil.chain.signer.Signer`. Raises ChainUnavailable, SignatureInvalid."""
        asked = {name: _quantity(value) for name, value in transaction.items() if name not in ("type", "from")}
        answer = await self._ask("eth_signTransaction", {**asked, "from": self.address})
        raw = bytes(HexBytes(answer))
        self._check(raw, transaction)
        return raw

    async def sign_typed(self, message: dict[str, Any]) -> bytes:
        """See :class:`veil.chain.signer.Signer`. Raises ChainUnavailable, SignatureInvalid."""
        first, second = _TYPED
        try:
            answer = await self._ask(first, self.address, _jsonable(message))
        except RpcRefused:
            answer = await self._ask(second, self.address, _jsonable(message))
        signature = bytes(HexBytes(answer))
        try:
            by = Account.recover_message(encode_typed_data(full_message=message), signature=signature)
        except Exception as error:
            raise SignatureInvalid(f"{self._rpc.name} gave no signature", hint="see the signing server's log") from error
        if by.lower() != self.address.lower():
            raise SignatureInvalid(f"{self._rpc.name} signed as {by}, not as {self.address}", hint="check the server's keys")
        return signature

    async def _ask(self, method: str, *params: Any) -> str:
        try:
            found = await self._rpc.call(str | _Filled, method, *params)  # type: ignore[arg-type]
        except RpcRefused:
            raise
        except ChainUnavailable as error:
            raise ChainUnavailable(
                f"the signing server {self._rpc.name} does not sign: {error.message}",
                hint="start it, or name another signer with --keystore",
            ) from error
        finally:
            await self._rpc.close()
        return found.raw if isinstance(found, _Filled) else str(found)

    def _check(self, raw: bytes, transaction: dict[str, Any]) -> None:
        try:
            by = Account.recover_transaction(raw)
            fields = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
        except Exception as error:
            raise SignatureInvalid(f"{self._rpc.name} gave no signed transaction", hint="see the server's log") from error
        changed = [name for name in _SIGNED_FIELDS if _number(fields.get(name)) != _number(transaction.get(name))]
        if by.lower() != self.address.lower() or changed:
            raise SignatureInvalid(
                f"{self._rpc.name} signed as {by}, with {', '.join(changed) or 'nothing'} changed", hint="check the server's keys"
            )


def remote(where: str) -> RemoteSigner:
    """The signer that ``URL#ADDRESS`` means. Raises ConfigInvalid."""
    url, _, address = where.partition("#")
    if not is_address(address):
        raise ConfigInvalid(f"{url}: which account?", hint="append it: http://HOST:PORT#0x… (40 hexadecimal digits)")
    return RemoteSigner(url, Address(to_checksum_address(address)))


def _quantity(value: Any) -> Any:
    if isinstance(value, bytes):
        return "0x" + value.hex()
    return hex(value) if isinstance(value, int) else value


def _number(value: Any) -> Any:
    """A field in a form in which both sides' are equal: bytes of what may be text, numbers as they are."""
    if value is None:
        return b""
    if isinstance(value, str):
        return bytes(HexBytes(value))
    return bytes(value) if isinstance(value, bytes) else value


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _jsonable(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_jsonable(part) for part in value]
    return "0x" + value.hex() if isinstance(value, bytes) else value
