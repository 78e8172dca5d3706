"""The registry's rules in memory: generations, the append fence, membership, namespaces, down marks.

What the contract refuses is refused here with the same error. Blocks keep the state after them, so that a reorg is one
assignment; only the newest REORG_MAX_BLOCKS keep it. The hash chain is over the events' text, not over logs: nothing
outside compares it with a real registry's.
"""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from veil.chain.ports import (
    EMPTY_HEAD,
    Block,
    ChainEvent,
    Head,
    NodeStatus,
    NodeStatusChanged,
    OtherEvent,
)
from veil.chain.records import Bond, Dispute, EpochRecord, Right, StakeTerms, role_id
from veil.errors import ChainUnavailable, Conflict, Forbidden, NotFound, Refused
from veil.types import Address, Digest, Generation, ObjectId, PeerId, Shard
from veil.wire.objects import KINDS

NAMESPACE = KINDS["Namespace"]

ROLES = ("DEFAULT_ADMIN_ROLE", "NODE_ADMIN", "POLICY_ADMIN", "KEY_ADMIN", "ARBITER", "GUARDIAN")
"""What the administrator of a new registry holds."""

REORG_MAX_BLOCKS = 64
"""How deep :meth:`Ledger.reorg` can go."""

DOWN_SIGNERS_MAX = 16
"""The most operators that a down mark may be made to need."""

INCARNATION_AHEAD_MAX_S = 24 * 3600
"""How far ahead of the chain's time the incarnation of a mark may be."""


@dataclass(frozen=True, slots=True)
class ObjectRecord:
    owner: Address
    generation: int
    finalizers: int = 0
    live: bool = True
    deleting: bool = False
    objects: int = 0
    """Live objects inside, of a namespace."""


@dataclass(frozen=True, slots=True)
class NodeRecord:
    operator: Address
    status: NodeStatus
    proven: bool = False
    down: bool = False
    floor: int = 0
    """A down mark needs a higher incarnation."""


NONE = Digest(bytes(32))

TERMS = StakeTerms(min_stake_wei=0, dispute_bond_wei=10**16, unbond_period_s=7 * 24 * 3600, resolve_period_s=3 * 24 * 3600)
"""What a new registry has."""


@dataclass(slots=True)
class State:
    """What the contract stores. Copied for each block, records are frozen."""

    objects: dict[tuple[int, bytes], ObjectRecord] = field(default_factory=dict)
    nodes: dict[PeerId, NodeRecord] = field(default_factory=dict)
    roots: dict[tuple[Shard, int], Digest] = field(default_factory=dict)
    sequences: dict[Shard, int] = field(default_factory=dict)
    rights: dict[tuple[bytes, Address, Address], Right] = field(default_factory=dict)
    owner_roles: dict[Address, bytes] = field(default_factory=dict)
    home_peers: dict[bytes, Digest] = field(default_factory=dict)
    decision_limits: dict[bytes, int] = field(default_factory=dict)
    restricted: bool = False
    labels: dict[PeerId, Digest] = field(default_factory=dict)
    bonds: dict[PeerId, Bond] = field(default_factory=dict)
    credits: dict[Address, int] = field(default_factory=dict)
    pool_wei: int = 0
    terms: StakeTerms = TERMS
    disputes: dict[Digest, Dispute] = field(default_factory=dict)
    epochs: dict[int, EpochRecord] = field(default_factory=dict)
    anchored: set[Digest] = field(default_factory=set)
    image_root: Digest = NONE
    images: dict[Digest, Digest] = field(default_factory=dict)
    roles: set[tuple[str, Address]] = field(default_factory=set)
    role_admins: dict[str, str] = field(default_factory=dict)
    policy: bytes = b""
    down_signers: int = 0
    head: Head = EMPTY_HEAD

    def copy(self) -> "State":
        return replace(
            self,
            objects=dict(self.objects),
            nodes=dict(self.nodes),
            roots=dict(self.roots),
            sequences=dict(self.sequences),
            rights=dict(self.rights),
            owner_roles=dict(self.owner_roles),
            home_peers=dict(self.home_peers),
            decision_limits=dict(self.decision_limits),
            labels=dict(self.labels),
            bonds=dict(self.bonds),
            credits=dict(self.credits),
            disputes=dict(self.disputes),
            epochs=dict(self.epochs),
            anchored=set(self.anchored),
            images=dict(self.images),
            roles=set(self.roles),
            role_admins=dict(self.role_admins),
        )

    def emit(self, make: Callable[[int], ChainEvent]) -> ChainEvent:
        """The event with the next rv; moves the head."""
        event = make(self.head.rv + 1)
        text = hashlib.sha256(self.head.accumulator + repr(event).encode()).digest()
        self.head = Head(self.head.rv + 1, text[:24])
        return event

    def other(self, name: str) -> ChainEvent:
        """An event that the projection does not need."""
        return self.emit(lambda rv: OtherEvent(rv=rv, name=name))

    def has_role(self, role: str, account: Address) -> bool:
        return (role, account) in self.roles

    def owns(self, owner: Address, account: Address) -> bool:
        """Whether ``account`` is ``owner``, or holds the role that it stands for."""
        role = self.owner_roles.get(owner)
        return owner == account or any(role_id(name) == role and who == account for name, who in self.roles)

    def rights_of(self, namespace: bytes, account: Address) -> Right:
        record = self.objects.get((NAMESPACE, namespace + bytes(16)))
        if record is None or not record.live:
            return Right.NONE
        if self.owns(record.owner, account):
            return Right.ALL
        return self.rights.get((namespace, record.owner, account), Right.NONE)

    def bond(self, peer: PeerId) -> Bond:
        return self.bonds.get(peer, Bond(0, 0, 0))

    def credit(self, account: Address, amount_wei: int) -> None:
        self.credits[account] = self.credits.get(account, 0) + amount_wei

    def count_dispute(self, peer: PeerId, step: int) -> None:
        bond = self.bond(peer)
        self.bonds[peer] = replace(bond, disputes=bond.disputes + step)

    def set_status(self, peer: PeerId, record: NodeRecord, status: NodeStatus, *, now_s: int) -> list[ChainEvent]:
        """What a change of status means for the node's stake, too."""
        bond, events, gone = self.bond(peer), list[ChainEvent](), status is NodeStatus.GONE
        if gone:
            waits = bool(bond.amount_wei) and record.status is NodeStatus.LEAVING and now_s < bond.unbond_at_s
            if waits or bond.disputes:
                raise Conflict(f"node {peer.hex()} is bonded until {bond.unbond_at_s}, {bond.disputes} disputes are open")
            if bond.amount_wei:
                self.bonds[peer] = replace(bond, amount_wei=0)
                self.credit(record.operator, bond.amount_wei)
                events.append(self.other("StakeReleased"))
            self.labels.pop(peer, None)
        elif status is NodeStatus.LEAVING:
            self.bonds[peer] = replace(bond, unbond_at_s=now_s + self.terms.unbond_period_s)
        elif status is NodeStatus.ACTIVE and bond.amount_wei < self.terms.min_stake_wei:
            raise Conflict(f"node {peer.hex()} has a stake of {bond.amount_wei} wei of {self.terms.min_stake_wei}")
        self.nodes[peer] = replace(record, status=status, down=record.down and not gone)
        return [*events, self.emit(lambda rv: NodeStatusChanged(rv=rv, peer=peer, status=status))]

    def is_member(self, operator: Address) -> bool:
        """Whether ``operator`` runs an Active or Cordoned node."""
        return any(n.operator == operator and n.status in _MEMBERS for n in self.nodes.values())

    def needed_signers(self) -> int:
        """k of a down mark."""
        members = sum(n.status in _MEMBERS for n in self.nodes.values())
        return self.down_signers or min(3, members // 2 + 1)

    def node(self, peer: PeerId) -> NodeRecord:
        record = self.nodes.get(peer)
        if record is None or record.status is NodeStatus.GONE:
            raise NotFound(f"node {peer.hex()} is not registered")
        return record

    def live_object(self, kind: int, object_id: bytes) -> ObjectRecord:
        record = self.objects.get((kind, object_id))
        if record is None or not record.live:
            raise NotFound(f"object {object_id.hex()} of kind {kind} does not exist")
        return record


_MEMBERS = (NodeStatus.ACTIVE, NodeStatus.CORDONED)


@dataclass(frozen=True, slots=True)
class FakeBlock:
    block: Block
    events: tuple[ChainEvent, ...]
    head: Head


class Ledger:
    """One chain with one registry, shared by the :class:`~veil.chain.fake.FakeChain` of every account.

    Each write is mined at once. ``admin`` holds every role. With ``acl=False`` namespaces and membership are not asked for.
    ``away`` makes the endpoint vanish; ``hide(rv)`` makes it drop that event from what followers see.
    """

    def __init__(self, admin: Address, *, acl: bool = True, block_time_s: int = 1) -> None:
        self.admin = admin
        self.acl = acl
        self.away = False
        self.paused = False
        self.state = State(roles={(role, admin) for role in ROLES})
        self._block_time_s = block_time_s
        self._salt = 0
        self._skipped_s = 0
        self._hidden: set[int] = set()
        self._changed = asyncio.Event()
        genesis = FakeBlock(Block(0, hashlib.sha256(b"genesis").digest(), 0), (), EMPTY_HEAD)
        self.blocks: list[FakeBlock] = [genesis]
        self._states: dict[int, State] = {0: self.state.copy()}

    @property
    def next_timestamp_s(self) -> int:
        """That of the block with the next transaction."""
        return len(self.blocks) * self._block_time_s + self._skipped_s

    def advance(self, seconds: int) -> None:
        """Let time pass without blocks."""
        self._skipped_s += seconds

    def read(self) -> State:
        """The state as a view sees it."""
        self.reachable()
        return self.state

    def write(self, change: Callable[[State], list[ChainEvent]], *, while_paused: bool = False) -> int:
        """Apply one transaction and mine it; gives back the block number. A refusal changes nothing."""
        self.reachable()
        if self.paused and not while_paused:
            raise Refused("the registry is paused", hint="a guardian paused it; an administrator unpauses it")
        draft = self.state.copy()
        events = change(draft)
        self.state = draft
        return self.mine(events)

    def mine(self, events: list[ChainEvent] | None = None) -> int:
        """One more block, empty by default."""
        number = len(self.blocks)
        seed = self.blocks[-1].block.hash + number.to_bytes(8, "big") + self._salt.to_bytes(8, "big")
        block = Block(number, hashlib.sha256(seed + repr(events).encode()).digest(), self.next_timestamp_s)
        self.blocks.append(FakeBlock(block, tuple(events or ()), self.state.head))
        self._states[number] = self.state.copy()
        self._states.pop(number - REORG_MAX_BLOCKS - 1, None)
        self.wake()
        return number

    def reorg(self, depth: int) -> None:
        """Replace the newest ``depth`` blocks by as many empty ones: their transactions never happened."""
        keep = len(self.blocks) - depth
        if depth > REORG_MAX_BLOCKS or keep < 1:
            raise ValueError(f"a reorg of {depth} blocks, at most {min(REORG_MAX_BLOCKS, len(self.blocks) - 1)} can go")
        del self.blocks[keep:]
        self.state = self._states[keep - 1].copy()
        self._salt += 1
        for _ in range(depth):
            self.mine()

    def hide(self, rv: int) -> None:
        """Drop event ``rv`` from what followers are shown: a lying endpoint."""
        self._hidden.add(rv)
        self.wake()

    def shown(self, number: int) -> tuple[ChainEvent, ...]:
        """The events of a block as the endpoint tells them."""
        return tuple(e for e in self.blocks[number].events if e.rv not in self._hidden)

    def reachable(self) -> None:
        if self.away:
            raise ChainUnavailable("the fake endpoint is away", hint="set Ledger.away to False")

    def wake(self) -> None:
        """Let followers look again (also after ``away`` was changed)."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self) -> None:
        """The next block, reorg or wake."""
        await self._changed.wait()


def require_generation(object_id: ObjectId, expected: int, actual: int) -> None:
    """Raises Conflict."""
    if expected != actual:
        raise Conflict(
            f"object {object_id.hex()} is at generation {actual}, not {expected}",
            hint="read it again, apply the change to what is there now",
        )


def next_generation(record: ObjectRecord | None) -> Generation:
    """Generations are never used twice, not even after a delete."""
    return Generation((record.generation if record else 0) + 1)


def forbidden(what: str) -> Forbidden:
    return Forbidden(what, hint="sign with the account that may do this, or ask its owner")
