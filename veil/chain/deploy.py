"""Putting a registry on a chain: the implementation in its two halves, and the proxy that everybody talks to."""

from eth_abi.abi import encode as abi_encode
from eth_hash.auto import keccak

from veil.chain import artifacts
from veil.chain.endpoints import Endpoints
from veil.chain.provider import connect
from veil.chain.sender import Sender, SentReceipt
from veil.chain.signer import Signer
from veil.errors import ChainUnavailable
from veil.types import Address

NOWHERE = "0x" + "0" * 40


async def deploy_registry(rpc_url: str, signer: Signer, admin: Address) -> tuple[Address, int]:
    """The registry's address and the block of its first event. ``admin`` gets every role; ``signer`` only pays.

    The proxy is initialized in its constructor, so that nobody can do it first.
    """
    endpoints = Endpoints([rpc_url], registry=Address(NOWHERE))
    w3 = connect(endpoints)
    try:
        sender = Sender(w3, signer)
        extension, _ = _created(await sender.send(None, artifacts.load("VeilRegistryExtension").bytecode))
        code_with = artifacts.load("VeilRegistry").bytecode + abi_encode(["address"], [extension])
        code, _ = _created(await sender.send(None, code_with))
        initialize = keccak(b"initialize(address)")[:4] + abi_encode(["address"], [admin])
        arguments = abi_encode(["address", "bytes"], [code, initialize])
        return _created(await sender.send(None, artifacts.load("ERC1967Proxy").bytecode + arguments))
    finally:
        await w3.provider.disconnect()
        await endpoints.close()


def _created(receipt: SentReceipt) -> tuple[Address, int]:
    if receipt.contract is None:
        raise ChainUnavailable("the receipt of a deployment names no contract", hint="ask another RPC endpoint")
    return receipt.contract, receipt.block
