"""A mesh in one process, for tests of what uses the mesh: many peers, faults on demand, virtual time.

Time passes by ``sleep`` (given by the test) and by the running loop's clock, so a test under a virtual clock never waits.
It behaves as :class:`veil.mesh.client.LibP2PMesh` does, and both pass the same conformance tests; what it does not have is
encryption: ``FakeNetwork.passed`` shows each payload as its sender gave it. Membership is what the test says it is.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from veil.errors import DeadlineExceeded, DigestMismatch, LimitExceeded, MeshUnavailable, NotFound
from veil.identity import peer_id_text
from veil.mesh.faults import Delay, Drop, Fault, Hold, Passage
from veil.mesh.feed import Feed
from veil.mesh.ports import BLOB_MAX_BYTES, METADATA_MAX_BYTES, REQUEST_MAX_BYTES, Handler, Member, PeerState
from veil.types import Digest, PeerId
from veil.wire.codec import sha256

Sleep = Callable[[float], Awaitable[None]]
F = TypeVar("F", bound=Fault)
T = TypeVar("T")

BLOB_GET = "blob/get"
"""The protocol name under which faults meet the fetching of blobs."""

BLOB_PUSH = "blob/push"
"""The protocol name under which faults meet the pushing of blobs."""


class FakeNetwork:
    """All the peers of one test, and the wires between them."""

    def __init__(self, sleep: Sleep = asyncio.sleep) -> None:
        self.sleep = sleep
        self.passed: list[Passage] = []
        """Every message given to its receiver, in order."""
        self._meshes: dict[PeerId, FakeMesh] = {}
        self._faults: list[Fault] = []
        self._sides: list[frozenset[PeerId]] = []
        self._killed: set[PeerId] = set()

    def mesh(self, peer: PeerId) -> "FakeMesh":
        """The mesh as ``peer`` sees it; always the same object for one peer."""
        if peer not in self._meshes:
            self._meshes[peer] = FakeMesh(self, peer)
        return self._meshes[peer]

    def afflict(self, fault: F) -> F:
        """Put a Drop, Delay or Hold on the wires, until it is healed or spent."""
        self._faults.append(fault)
        return fault

    def partition(self, *sides: Iterable[PeerId]) -> None:
        """Messages between different sides are lost; a peer on no side reaches everybody. Replaces an earlier partition."""
        self._sides = [frozenset(side) for side in sides]

    def heal(self) -> None:
        """No partition, no faults. Killed peers stay killed."""
        self._sides = []
        for fault in self._faults:
            fault.heal()
        self._faults.clear()

    def kill(self, peer: PeerId) -> None:
        """As ``kill -9``: what it was handling ends, requests to it fail at once. Its state changes when the test says so."""
        self._killed.add(peer)
        self.mesh(peer).abort()

    def revive(self, peer: PeerId) -> None:
        """A killed peer is reachable again, with its blobs and handlers."""
        self._killed.discard(peer)

    def set_state(
        self, subject: PeerId, state: PeerState, *, seen_by: Iterable[PeerId] | None = None, incarnation: int | None = None
    ) -> None:
        """What SWIM says of ``subject`` from now on at ``seen_by`` (everybody else when left out)."""
        observers = [peer for peer in self._meshes if peer != subject] if seen_by is None else list(seen_by)
        for observer in observers:
            self.mesh(observer).see(subject, state, incarnation=incarnation)

    def announce(self, member: Member) -> None:
        """What ``member`` says of itself reaches everybody who allows it."""
        for peer, mesh in self._meshes.items():
            if peer != member.peer:
                mesh.see(member.peer, member.state, incarnation=member.incarnation, metadata=member.metadata)

    def introduce(self, subject: PeerId, observer: "FakeMesh") -> None:
        """Tells one newcomer, or one that newly allows ``subject``, what ``subject`` says of itself."""
        mesh = self._meshes.get(subject)
        if mesh is not None and mesh.running and subject not in self._killed:
            own = mesh.own()
            observer.see(subject, own.state, incarnation=own.incarnation, metadata=own.metadata)

    async def carry(self, passage: Passage, deadline_s: float) -> None:
        """Brings one message to its receiver, or loses it: then DeadlineExceeded after ``deadline_s``."""
        if self._apart(passage.sender, passage.receiver):
            await self._lose(passage, deadline_s)
        for fault in list(self._faults):
            if not fault.meets(passage):
                continue
            if isinstance(fault, Drop):
                await self._lose(passage, deadline_s)
            elif isinstance(fault, Delay):
                await self.sleep(fault.delay_s)
            elif isinstance(fault, Hold):
                await fault.wait(passage)
        if not self._reachable(passage.sender, passage.receiver):
            raise MeshUnavailable(
                f"{peer_id_text(passage.receiver)} cannot be reached", hint="is the peer running, and registered?"
            )
        self.passed.append(passage)

    async def _lose(self, passage: Passage, deadline_s: float) -> None:
        await self.sleep(deadline_s)
        raise DeadlineExceeded(f"{passage.protocol}: no answer within {deadline_s} s")

    def _apart(self, one: PeerId, other: PeerId) -> bool:
        side = next((side for side in self._sides if one in side), None)
        return side is not None and other not in side and any(other in rest for rest in self._sides)

    def _reachable(self, one: PeerId, other: PeerId) -> bool:
        first, second = self._meshes.get(one), self._meshes.get(other)
        if first is None or second is None or {one, other} & self._killed:
            return False
        return first.running and second.running and first.allows(other) and second.allows(one)


class FakeMesh:
    """One peer's :class:`veil.mesh.ports.Mesh`."""

    def __init__(self, network: FakeNetwork, peer: PeerId) -> None:
        self.peer_id = peer
        self.running = False
        self.blobs: dict[Digest, bytes] = {}
        """What this peer keeps. A test may put wrong bytes here: they are served, and found out by whoever asked."""
        self._network = network
        self._allowed: frozenset[PeerId] = frozenset()
        self._handlers: dict[str, Handler] = {}
        self._members: dict[PeerId, Member] = {}
        self._feed = Feed()
        self._handling: set[asyncio.Task[bytes]] = set()
        self._metadata = b""
        self._incarnation = 0

    async def start(self) -> None:
        self.running = True
        self._incarnation += 1
        for peer in self._allowed:
            self._network.introduce(peer, self)
        self._network.announce(self.own())

    async def close(self) -> None:
        if not self.running:
            return
        self.abort()
        self._network.announce(self.own(PeerState.LEFT))
        self.running = False
        self._feed.close()

    def abort(self) -> None:
        """Ends every request being handled here."""
        for task in self._handling:
            task.cancel()

    def allow(self, peers: dict[PeerId, Sequence[str]]) -> None:
        self._allowed = frozenset(peers) - {self.peer_id}
        self._members = {peer: member for peer, member in self._members.items() if peer in self._allowed}
        for peer in self._allowed - self._members.keys():
            self._members[peer] = Member(peer=peer, state=PeerState.SUSPECT, incarnation=0)
            self._network.introduce(peer, self)

    def allows(self, peer: PeerId) -> bool:
        return peer in self._allowed

    def serve(self, protocol: str, handler: Handler) -> None:
        self._handlers[protocol] = handler

    async def request(self, peer: PeerId, protocol: str, payload: bytes, *, deadline_s: float = 5.0) -> bytes:
        _check_size("request", payload, REQUEST_MAX_BYTES)
        self._check_running()
        if peer == self.peer_id:
            return await self._within(self.handle(peer, protocol, payload), protocol, deadline_s)
        return await self._within(self._ask(peer, protocol, payload, deadline_s), protocol, deadline_s)

    async def put(self, content: bytes) -> Digest:
        _check_size("blob", content, BLOB_MAX_BYTES)
        digest = sha256(content)
        self.blobs[digest] = content
        return digest

    async def push(self, digest: Digest, peer: PeerId, *, deadline_s: float = 10.0) -> None:
        self._check_running()
        if digest not in self.blobs:
            raise NotFound(f"blob {digest.hex()} is not kept here", hint="put it first")
        content = self.blobs[digest]
        await self._within(self._push(digest, content, peer, deadline_s), BLOB_PUSH, deadline_s)

    async def get(self, digest: Digest, *, sources: Sequence[PeerId] = (), deadline_s: float = 10.0) -> bytes:
        if sha256(self.blobs.get(digest, b"")) == digest:
            return self.blobs[digest]
        self._check_running()
        alive = [member.peer for member in self.members() if member.state is PeerState.ALIVE]
        return await self._within(self._fetch(digest, list(sources) or alive, deadline_s), BLOB_GET, deadline_s)

    async def has(self, digest: Digest) -> bool:
        return digest in self.blobs

    async def drop(self, digest: Digest) -> None:
        self.blobs.pop(digest, None)

    def members(self) -> list[Member]:
        return [self.own(), *self._members.values()]

    def set_metadata(self, metadata: bytes) -> None:
        _check_size("metadata", metadata, METADATA_MAX_BYTES)
        self._metadata = metadata
        if self.running:
            self._incarnation += 1
            self._network.announce(self.own())

    def changes(self) -> AsyncIterator[Member]:
        return self._feed.subscribe()

    def own(self, state: PeerState = PeerState.ALIVE) -> Member:
        return Member(peer=self.peer_id, state=state, incarnation=self._incarnation, metadata=self._metadata)

    def see(self, subject: PeerId, state: PeerState, *, incarnation: int | None = None, metadata: bytes | None = None) -> None:
        """What SWIM tells this peer of ``subject``; nothing if it is not allowed. Left out means as it was."""
        before = self._members.get(subject)
        if before is None:
            return
        after = Member(
            peer=subject,
            state=state,
            incarnation=before.incarnation if incarnation is None else incarnation,
            metadata=before.metadata if metadata is None else metadata,
        )
        self._members[subject] = after
        if before.state is not after.state:
            self._feed.publish(after)

    async def handle(self, sender: PeerId, protocol: str, payload: bytes) -> bytes:
        """Runs the handler in a task of this peer: it goes on when the asker gives up, and ends when this peer is killed."""
        handler = self._handlers.get(protocol)
        if handler is None:
            raise MeshUnavailable(f"{peer_id_text(self.peer_id)} does not serve {protocol!r}")

        async def run() -> bytes:
            return await handler(sender, payload)

        task = asyncio.create_task(run())
        self._handling.add(task)
        task.add_done_callback(self._handling.discard)
        await asyncio.wait([task])
        if task.cancelled() or task.exception() is not None:
            raise MeshUnavailable(f"{peer_id_text(self.peer_id)} failed to answer {protocol!r}")
        reply = task.result()
        if len(reply) > REQUEST_MAX_BYTES:
            raise MeshUnavailable(f"{peer_id_text(self.peer_id)} answered {protocol!r} with more than REQUEST_MAX_BYTES")
        return reply

    async def _ask(self, peer: PeerId, protocol: str, payload: bytes, deadline_s: float) -> bytes:
        there = Passage(sender=self.peer_id, receiver=peer, protocol=protocol, leg="request", payload=payload)
        await self._network.carry(there, deadline_s)
        reply = await self._network.mesh(peer).handle(self.peer_id, protocol, payload)
        back = Passage(sender=peer, receiver=self.peer_id, protocol=protocol, leg="reply", payload=reply)
        await self._network.carry(back, deadline_s)
        return reply

    async def _push(self, digest: Digest, content: bytes, peer: PeerId, deadline_s: float) -> None:
        there = Passage(sender=self.peer_id, receiver=peer, protocol=BLOB_PUSH, leg="request", payload=content)
        await self._network.carry(there, deadline_s)
        if sha256(content) != digest:
            raise DigestMismatch(f"blob {digest.hex()}: the content kept here has another digest")
        self._network.mesh(peer).blobs[digest] = content
        back = Passage(sender=peer, receiver=self.peer_id, protocol=BLOB_PUSH, leg="reply", payload=b"")
        await self._network.carry(back, deadline_s)

    async def _fetch(self, digest: Digest, sources: Sequence[PeerId], deadline_s: float) -> bytes:
        mismatched = False
        for peer in sources:
            if peer == self.peer_id:
                continue
            there = Passage(sender=self.peer_id, receiver=peer, protocol=BLOB_GET, leg="request", payload=digest)
            try:
                await self._network.carry(there, deadline_s / len(sources))
                content = self._network.mesh(peer).blobs.get(digest)
                if content is None:
                    continue
                back = Passage(sender=peer, receiver=self.peer_id, protocol=BLOB_GET, leg="reply", payload=content)
                await self._network.carry(back, deadline_s / len(sources))
            except (MeshUnavailable, DeadlineExceeded):
                continue
            if sha256(content) == digest:
                self.blobs[digest] = content
                return content
            mismatched = True
        if mismatched:
            raise DigestMismatch(f"blob {digest.hex()}: every source that has it gave other bytes")
        raise NotFound(f"blob {digest.hex()} is on none of {len(sources)} sources")

    async def _within(self, work: Awaitable[T], protocol: str, deadline_s: float) -> T:
        try:
            async with asyncio.timeout(deadline_s):
                return await work
        except TimeoutError as error:
            raise DeadlineExceeded(f"{protocol}: no answer within {deadline_s} s") from error

    def _check_running(self) -> None:
        if not self.running:
            raise MeshUnavailable("the mesh is not started", hint="await start() first")


def _check_size(what: str, content: bytes, limit_bytes: int) -> None:
    if len(content) > limit_bytes:
        raise LimitExceeded(f"a {what} of {len(content)} bytes; at most {limit_bytes} are taken")
