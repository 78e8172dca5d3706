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
)
from veil.errors import ChainUnavailable, Conflict, Forbidden, NotFound, Refused
from veil.types import Address, Digest, Generation, ObjectId, PeerId, Shard

REORG_MAX_BLOCKS = 64
"""How deep :meth:`Ledger.reorg` can go."""

DOWN_SIGNERS_MAX = 16
"""The most operators that a down mark may be made to need."""


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


@dataclass(slots=True)
class State:
    """What the contract stores. Copied for each block, records are frozen."""

    objects: dict[tuple[int, bytes], ObjectRecord] = field(default_factory=dict)
    nodes: dict[PeerId, NodeRecord] = field(default_factory=dict)
    roots: dict[tuple[Shard, int], Digest] = field(default_factory=dict)
    sequences: dict[Shard, int] = field(default_factory=dict)
    editors: set[tuple[bytes, Address, Address]] = field(default_factory=set)
    epochs: dict[int, tuple[Digest, bool]] = field(default_factory=dict)
    anchored: set[Digest] = field(default_factory=set)
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
            editors=set(self.editors),
            epochs=dict(self.epochs),
            anchored=set(self.anchored),
        )

    def emit(self, make: Callable[[int], ChainEvent]) -> ChainEvent:
        """The event with the next rv; moves the head."""
        event = make(self.head.rv + 1)
        text = hashlib.sha256(self.head.accumulator + repr(event).encode()).digest()
        self.head = Head(self.head.rv + 1, text[:24])
        return event

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
        self.state = State()
        self._block_time_s = block_time_s
        self._salt = 0
        self._hidden: set[int] = set()
        self._changed = asyncio.Event()
        genesis = FakeBlock(Block(0, hashlib.sha256(b"genesis").digest(), 0), (), EMPTY_HEAD)
        self.blocks: list[FakeBlock] = [genesis]
        self._states: dict[int, State] = {0: self.state.copy()}

    def write(self, change: Callable[[State], list[ChainEvent]]) -> int:
        """Apply one transaction and mine it; gives back the block number. A refusal changes nothing."""
        self.reachable()
        if self.paused:
            raise Refused("the registry is paused", hint="a guardian paused it; an administrator unpauses it")
        draft = self.state.copy()
        events = change(draft)
        self.state = draft
        return self.mine(events)

    def mine(self, events: list[ChainEvent] | None = None) -> int:
        """One more block, empty by default."""
        number = len(self.blocks)
        seed = self.blocks[-1].block.hash + number.to_bytes(8, "big") + self._salt.to_bytes(8, "big")
        block = Block(number, hashlib.sha256(seed + repr(events).encode()).digest(), number * self._block_time_s)
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
