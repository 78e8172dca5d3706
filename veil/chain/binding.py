"""The registry's functions as web3 knows them: calldata in, values out, and what an operator signs.

Names and types come from the artifact's ABI; a wrong name or type fails here, not on chain.
"""

import functools
from collections.abc import Sequence
from typing import Any

from eth_abi.abi import encode as abi_encode
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_hash.auto import keccak
from eth_keys.exceptions import BadSignature
from eth_utils.abi import collapse_if_tuple
from eth_utils.exceptions import ValidationError
from web3 import AsyncWeb3

from veil.chain import artifacts
from veil.chain.endpoint import reach
from veil.errors import Forbidden
from veil.types import Address, PeerId

SIGNATURE_BYTES = 65
"""(r, s, v)."""


class Binding:
    """One deployed registry, or another contract of which there is an artifact."""

    def __init__(self, w3: AsyncWeb3[Any], address: Address, artifact: str = "VeilRegistry") -> None:
        self.address = address
        self._artifact = artifact
        self._contract: Any = w3.eth.contract(address=address, abi=artifacts.load(artifact).abi)  # type: ignore[call-overload]

    def encode(self, function: str, *args: Any) -> bytes:
        """The calldata of a call. Not by web3, which takes ten times as long for it."""
        selector, types = _functions(self._artifact)[function]
        return selector + abi_encode(types, args)

    async def read(self, function: str, *args: Any, block: Any = "latest") -> Any:
        """The value of a view. Raises what the contract says, or ChainUnavailable."""

        async def ask() -> Any:
            return await self._contract.functions[function](*args).call(block_identifier=block)

        return await reach(ask)


@functools.cache
def _functions(artifact: str) -> dict[str, tuple[bytes, list[str]]]:
    """Name to selector and types."""
    result = {}
    for item in artifacts.load(artifact).abi:
        if item["type"] == "function":
            types = [collapse_if_tuple(part) for part in item["inputs"]]
            result[item["name"]] = (bytes(keccak(f"{item['name']}({','.join(types)})".encode())[:4]), types)
    return result


def mark_down_message(chain_id: int, registry: Address, peer: PeerId, incarnation: int) -> dict[str, Any]:
    """What an operator signs to accuse a node: an EIP-712 message, ``MarkDown(bytes32 peerID,uint64 incarnation)``."""
    return {
        "types": {
            "EIP712Domain": _fields(name="string", version="string", chainId="uint256", verifyingContract="address"),
            "MarkDown": _fields(peerID="bytes32", incarnation="uint64"),
        },
        "primaryType": "MarkDown",
        "domain": {"name": "Veil", "version": "1", "chainId": chain_id, "verifyingContract": registry},
        "message": {"peerID": bytes(peer), "incarnation": incarnation},
    }


def _fields(**types: str) -> list[dict[str, str]]:
    return [{"name": name, "type": kind} for name, kind in types.items()]


def by_signer(message: dict[str, Any], signatures: Sequence[bytes]) -> list[bytes]:
    """``signatures`` of ``message`` in the order that the contract wants, one per signer.

    Raises Forbidden for what is no signature.
    """
    found: dict[str, bytes] = {}
    for signature in signatures:
        signer = signer_of(message, signature)
        if signer is None:
            raise Forbidden("one of the signatures is none", hint="each operator signs anew")
        found[signer.lower()] = signature
    return [found[address] for address in sorted(found)]


def signer_of(message: dict[str, Any], signature: bytes) -> Address | None:
    """Whose signature of ``message`` that is; None for what is no signature."""
    if len(signature) != SIGNATURE_BYTES:
        return None
    try:
        return Address(Account.recover_message(encode_typed_data(full_message=message), signature=signature))
    except (ValueError, BadSignature, ValidationError):
        return None
