"""Putting a registry on a chain: the implementation in its two halves, the proxy that everybody talks to, and who governs it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from eth_abi.abi import encode as abi_encode
from eth_hash.auto import keccak

from veil.chain import artifacts
from veil.chain.binding import Binding
from veil.chain.endpoints import Endpoints
from veil.chain.provider import connect
from veil.chain.records import role_id
from veil.chain.sender import Sender, SentReceipt
from veil.chain.signer import Signer
from veil.errors import ChainUnavailable
from veil.types import Address

NOWHERE = Address("0x" + "0" * 40)
ADMIN = "DEFAULT_ADMIN_ROLE"
DAILY_ROLES = ("NODE_ADMIN", "POLICY_ADMIN", "KEY_ADMIN", "ARBITER")
"""What those who run a cluster do every day, without the timelock."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """A new registry; ``block`` is that of its first event, where reading starts."""

    registry: Address
    block: int
    implementation: Address
    timelock: Address


async def deploy_registry(rpc_url: str, signer: Signer, admin: Address) -> tuple[Address, int]:
    """The registry's address and the block of its first event. ``admin`` gets every role; ``signer`` only pays.

    The proxy is initialized in its constructor, so that nobody can do it first.
    """
    async with sending([rpc_url], signer) as sender:
        return await _deploy_proxy(sender, await deploy_code(sender), admin)


async def deploy_governed(
    rpc: Sequence[str], signer: Signer, *, admin: Address, guardian: Address, proposers: Sequence[Address], delay_s: int
) -> Deployment:
    """A registry whose upgrades and roles are a timelock's alone: ``proposers`` schedule, and after ``delay_s`` execute.

    ``admin`` gets DAILY_ROLES, ``guardian`` may pause. ``signer`` pays, and keeps nothing.
    """
    async with sending(rpc, signer) as sender:
        arguments = abi_encode(["uint256", "address[]", "address[]", "address"], [delay_s, proposers, proposers, NOWHERE])
        timelock, _ = _created(await sender.send(None, artifacts.load("TimelockController").bytecode + arguments))
        code = await deploy_code(sender)
        registry, block = await _deploy_proxy(sender, code, signer.address)
        binding = Binding(sender.w3, registry)
        grants = [*((role, admin) for role in DAILY_ROLES), ("GUARDIAN", guardian), (ADMIN, timelock)]
        for role, account in grants:
            if account != signer.address:
                await sender.send(registry, binding.encode("grantRole", role_id(role), account))
        for role, account in grants:
            if account != signer.address:
                await sender.send(registry, binding.encode("renounceRole", role_id(role), signer.address))
        return Deployment(registry, block, code, timelock)


@asynccontextmanager
async def sending(rpc: Sequence[str], signer: Signer) -> AsyncIterator[Sender]:
    """A sender for what is no registry yet."""
    endpoints = Endpoints(rpc, registry=NOWHERE)
    w3 = connect(endpoints)
    try:
        yield Sender(w3, signer)
    finally:
        await w3.provider.disconnect()
        await endpoints.close()


async def deploy_code(sender: Sender) -> Address:
    """This release's implementation, with its extension; no proxy uses it yet."""
    extension, _ = _created(await sender.send(None, artifacts.load("VeilRegistryExtension").bytecode))
    code = artifacts.load("VeilRegistry").bytecode + abi_encode(["address"], [extension])
    return _created(await sender.send(None, code))[0]


async def _deploy_proxy(sender: Sender, code: Address, admin: Address) -> tuple[Address, int]:
    initialize = keccak(b"initialize(address)")[:4] + abi_encode(["address"], [admin])
    arguments = abi_encode(["address", "bytes"], [code, initialize])
    return _created(await sender.send(None, artifacts.load("ERC1967Proxy").bytecode + arguments))


def _created(receipt: SentReceipt) -> tuple[Address, int]:
    if receipt.contract is None:
        raise ChainUnavailable("the receipt of a deployment names no contract", hint="ask another RPC endpoint")
    return receipt.contract, receipt.block
