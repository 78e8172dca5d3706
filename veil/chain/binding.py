"""The registry's functions as web3 knows them: calldata in, values out, and what an operator signs.

Names and types come from the artifact's ABI; a wrong name or type fails here, not on chain.
"""

from collections.abc import Sequence
from typing import Any

import aiohttp
from eth_abi.abi import encode as abi_encode
from eth_account import Account
from eth_hash.auto import keccak
from web3 import AsyncWeb3
from web3.providers.rpc import AsyncHTTPProvider

from veil.chain import artifacts
from veil.chain.endpoint import reach
from veil.errors import Forbidden
from veil.types import Address, PeerId

REQUEST_DEADLINE_S = 15.0
"""How long one request of web3 may take."""

_DOMAIN_TYPE = keccak(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
_MARK_DOWN_TYPE = keccak(b"MarkDown(bytes32 peerID,uint64 incarnation)")
_NAME, _VERSION = keccak(b"Veil"), keccak(b"1")


def connect(rpc_url: str) -> AsyncWeb3[AsyncHTTPProvider]:
    """A web3 client without retries of its own: the sender's are bounded and know what may be repeated."""
    timeout = {"timeout": aiohttp.ClientTimeout(total=REQUEST_DEADLINE_S)}
    return AsyncWeb3(AsyncHTTPProvider(rpc_url, request_kwargs=timeout, exception_retry_configuration=None))


class Binding:
    """One deployed registry."""

    def __init__(self, w3: AsyncWeb3[AsyncHTTPProvider], address: Address) -> None:
        self.address = address
        self._contract: Any = w3.eth.contract(address=address, abi=artifacts.load("VeilRegistry").abi)  # type: ignore[call-overload]

    def encode(self, function: str, *args: Any) -> bytes:
        """The calldata of a call."""
        return bytes.fromhex(self._contract.encode_abi(function, args=list(args))[2:])

    async def read(self, function: str, *args: Any, block: Any = "latest") -> Any:
        """The value of a view. Raises what the contract says, or ChainUnavailable."""

        async def ask() -> Any:
            return await self._contract.functions[function](*args).call(block_identifier=block)

        return await reach(ask)


def mark_down_digest(chain_id: int, registry: Address, peer: PeerId, incarnation: int) -> bytes:
    """What an operator signs to accuse a node: EIP-712, ``MarkDown(bytes32 peerID,uint64 incarnation)``."""
    domain = keccak(
        abi_encode(["bytes32", "bytes32", "bytes32", "uint256", "address"], [_DOMAIN_TYPE, _NAME, _VERSION, chain_id, registry])
    )
    content = keccak(abi_encode(["bytes32", "bytes32", "uint64"], [_MARK_DOWN_TYPE, peer, incarnation]))
    return bytes(keccak(b"\x19\x01" + domain + content))


def by_signer(digest: bytes, signatures: Sequence[bytes]) -> list[bytes]:
    """``signatures`` in the order that the contract wants, one per signer. Raises Forbidden for what is no signature."""
    found: dict[str, bytes] = {}
    for signature in signatures:
        try:
            found[Account._recover_hash(digest, signature=signature).lower()] = signature
        except Exception as error:
            raise Forbidden("one of the signatures is none", hint="each operator signs anew") from error
    return [found[address] for address in sorted(found)]
