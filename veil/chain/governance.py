"""Who governs a registry, and how its code is replaced: through the timelock that holds its highest role.

An upgrade is two transactions, ``delay`` apart: whoever does not agree with the new code has that time to leave.
"""

from dataclasses import dataclass
from typing import Any

from eth_utils.address import to_checksum_address

from veil.chain.binding import Binding
from veil.chain.client import RegistryChain
from veil.chain.deploy import ADMIN, deploy_code
from veil.chain.reading import read_registry
from veil.chain.records import role_id
from veil.chain.reverts import ROLES
from veil.chain.rpc import RpcRefused
from veil.errors import Conflict, Forbidden, NotFound
from veil.types import Address

IMPLEMENTATION_SLOT = "0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc"
"""Where a proxy keeps the address of its code (ERC-1967)."""

NONE = bytes(32)
"""No predecessor, no salt: an operation is named by what it does."""


@dataclass(frozen=True, slots=True)
class Operation:
    """Something scheduled: ``ready_at_s`` is Unix time, 0 when it is not scheduled, 1 when it was executed."""

    id: bytes
    timelock: Address
    ready_at_s: int


@dataclass(frozen=True, slots=True)
class Status:
    """A registry as its chain shows it now."""

    implementation: Address
    extension: Address
    paused: bool
    rv: int
    members: int
    down_signers: int
    roles: dict[str, list[Address]]
    timelock: Address | None
    delay_s: int


async def status(chain: RegistryChain) -> Status:
    """Raises ChainUnavailable."""
    roles = await role_holders(chain)
    timelock, delay_s = await _timelock(chain, roles.get(ADMIN, []))
    members, _ = await chain.read("memberCount", chain.operator)
    return Status(
        implementation=await implementation(chain),
        extension=Address(await chain.read("extension")),
        paused=bool(await chain.read("paused")),
        rv=(await chain.head()).rv,
        members=int(members),
        down_signers=await chain.down_signers(),
        roles=roles,
        timelock=timelock,
        delay_s=delay_s,
    )


async def implementation(chain: RegistryChain) -> Address:
    """The address of the code behind the proxy."""
    word = await chain.endpoints.current().call(str, "eth_getStorageAt", chain.registry, IMPLEMENTATION_SLOT, "latest")
    return Address(to_checksum_address("0x" + word[-40:]))


async def role_holders(chain: RegistryChain) -> dict[str, list[Address]]:
    """Who holds which role, from the events, which are checked against ``head()``: the contract keeps no list."""
    projection = await read_registry(chain)
    try:
        names = {role_id(name): name for name in ROLES}
        held = {names.get(role, "0x" + role.hex()): accounts for role, accounts in projection.roles().items()}
    finally:
        projection.close()
    return dict(sorted(held.items()))


async def schedule_upgrade(chain: RegistryChain) -> tuple[Address, Operation | None]:
    """Put this release's code on the chain and schedule it. The new code, and the operation: None when there is no timelock
    and it works at once. Raises Forbidden for an account that may do neither."""
    through = await _way(chain, ADMIN, "upgrade")
    code = await deploy_code(chain.sender)
    return code, await _do(chain, through, chain.encode("upgradeToAndCall", code, b""))


async def execute_upgrade(chain: RegistryChain, code: Address) -> Operation:
    """Execute what :func:`schedule_upgrade` scheduled. Raises NotFound, Conflict (too early, done already), Forbidden."""
    return await _execute(chain, ADMIN, chain.encode("upgradeToAndCall", code, b""), f"upgrade to {code}")


async def change_role(chain: RegistryChain, role: str, account: Address, *, held: bool, execute: bool) -> Operation | None:
    """Give ``role`` to ``account``, or take it, by an account that administers the role. None when it works at once; else the
    timelock's operation, scheduled or (``execute``) executed. Raises as :func:`execute_upgrade` does."""
    keeper = await role_admin(chain, role)
    call = chain.encode("grantRole" if held else "revokeRole", role_id(role), account)
    what = f"{'grant' if held else 'revocation'} of {role} for {account}"
    if execute:
        return await _execute(chain, keeper, call, what)
    return await _do(chain, await _way(chain, keeper, f"change {role}"), call)


async def change_role_admin(chain: RegistryChain, role: str, admin_role: str, *, execute: bool) -> Operation | None:
    """Let the holders of ``admin_role`` grant and revoke ``role``. As :func:`change_role`."""
    call = chain.encode("setRoleAdmin", role_id(role), role_id(admin_role))
    if execute:
        return await _execute(chain, ADMIN, call, f"change of who administers {role}")
    return await _do(chain, await _way(chain, ADMIN, f"change who administers {role}"), call)


async def pay_pool(chain: RegistryChain, to: Address, amount_wei: int, *, execute: bool) -> Operation | None:
    """Credit ``to`` with a part of what was forfeited. As :func:`change_role`."""
    call = chain.encode("payPool", to, amount_wei)
    if execute:
        return await _execute(chain, ADMIN, call, f"payment of {amount_wei} wei to {to}")
    return await _do(chain, await _way(chain, ADMIN, "pay out of the pool"), call)


async def role_admin(chain: RegistryChain, role: str) -> str:
    """The role whose holders grant and revoke ``role``, by its name where that is known."""
    found = bytes(await chain.read("getRoleAdmin", role_id(role)))
    return next((name for name in ROLES if role_id(name) == found), "0x" + found.hex())


async def _way(chain: RegistryChain, role: str, what: str) -> Address | None:
    """The timelock through which this account acts with ``role``; None if it holds the role itself. Raises Forbidden."""
    if await chain.read("hasRole", role_id(role), chain.operator):
        return None
    holders = (await role_holders(chain)).get(role, [])
    timelock, _ = await _timelock(chain, holders)
    if timelock is None:
        named = f"sign as {', '.join(holders)}" if holders else "nobody holds it"
        raise Forbidden(f"{chain.operator} may not {what}: it does not hold {role}", hint=named)
    await _may(chain, timelock, "PROPOSER_ROLE")
    return timelock


async def _do(chain: RegistryChain, through: Address | None, call: bytes) -> Operation | None:
    """``call``, at once or scheduled in a timelock."""
    if through is None:
        await chain.sender.send(chain.registry, call)
        return None
    binding = Binding(chain.sender.w3, through, "TimelockController")
    delay_s = int(await binding.read("getMinDelay"))
    await chain.sender.send(through, binding.encode("schedule", chain.registry, 0, call, NONE, NONE, delay_s))
    return await _operation(chain, binding, through, call)


async def _execute(chain: RegistryChain, role: str, call: bytes, what: str) -> Operation:
    timelock, _ = await _timelock(chain, (await role_holders(chain)).get(role, []))
    if timelock is None:
        raise NotFound(f"no timelock holds {role}", hint="the same without --execute works at once")
    binding = Binding(chain.sender.w3, timelock, "TimelockController")
    operation = await _operation(chain, binding, timelock, call)
    if operation.ready_at_s == 0:
        raise NotFound(f"no {what} is scheduled", hint="the same without --execute schedules it")
    if operation.ready_at_s == 1:
        raise Conflict(f"the {what} was executed", hint="see `veil cluster status`")
    now_s = await _now_s(chain)
    if now_s < operation.ready_at_s:
        raise Conflict(f"the {what} may be executed in {operation.ready_at_s - now_s} s", hint="wait until then")
    await _may(chain, timelock, "EXECUTOR_ROLE")
    await chain.sender.send(timelock, binding.encode("execute", chain.registry, 0, call, NONE, NONE))
    return operation


async def _operation(chain: RegistryChain, binding: Binding, timelock: Address, call: bytes) -> Operation:
    name = bytes(await binding.read("hashOperation", chain.registry, 0, call, NONE, NONE))
    return Operation(name, timelock, int(await binding.read("getTimestamp", name)))


async def _may(chain: RegistryChain, timelock: Address, role: str) -> None:
    binding = Binding(chain.sender.w3, timelock, "TimelockController")
    if not await binding.read("hasRole", role_id(role), chain.operator):
        raise Forbidden(f"{chain.operator} does not hold {role} of the timelock {timelock}", hint="sign as one who does")


async def _timelock(chain: RegistryChain, holders: list[Address]) -> tuple[Address | None, int]:
    """The first holder that is a timelock, and its delay."""
    for holder in holders:
        code = await chain.endpoints.current().call(str, "eth_getCode", holder, "latest")
        if code == "0x":
            continue
        binding: Any = Binding(chain.sender.w3, holder, "TimelockController")
        try:
            return holder, int(await binding.read("getMinDelay"))
        except RpcRefused:
            continue
    return None, 0


async def _now_s(chain: RegistryChain) -> int:
    newest = await chain.endpoints.current().call(dict[str, Any], "eth_getBlockByNumber", "latest", False)
    return int(newest["timestamp"], 16)
