"""The mesh for a node: :class:`veil.mesh.ports.Mesh` over a meshd child process.

Everything that needs the node's secrets or its handlers happens here, on the node's side of the socket: sealing, opening,
serving. meshd moves sealed bytes. Blobs do not pass through the socket; both sides work on the same directory.
"""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from pathlib import Path

from veil import errors
from veil.config import MeshLimits
from veil.errors import DeadlineExceeded, DigestMismatch, LimitExceeded, MeshUnavailable, NotFound, VeilError
from veil.identity import Identity, peer_id_text
from veil.mesh.blobs import BlobStore
from veil.mesh.capture import Capture
from veil.mesh.child import Child
from veil.mesh.control import Allow, AllowedPeer, Announce, Ask, Done, Fetch, Push, Seen, Serve, Served, Setup
from veil.mesh.feed import Feed
from veil.mesh.messages import PROTOCOL_NAME_MAX
from veil.mesh.ports import BLOB_MAX_BYTES, METADATA_MAX_BYTES, REQUEST_MAX_BYTES, Handler, Member, PeerState
from veil.mesh.sealing import open_reply, open_request, seal_reply, seal_request
from veil.types import PEER_ID_BYTES, ClusterId, Digest, PeerId, Random, SystemRandom
from veil.wire.codec import Message

logger = logging.getLogger(__name__)

GRACE_S = 1.0
"""How much later than meshd, which keeps the deadline, this side gives up: then meshd itself is stuck."""

_ERRORS: dict[str, type[VeilError]] = {
    kind.__name__: kind
    for kind in (errors.MeshUnavailable, errors.DeadlineExceeded, errors.NotFound, errors.DigestMismatch, errors.LimitExceeded)
}


class LibP2PMesh:
    """One node's mesh.

    ``listen`` are the multiaddrs to bind; a port 0 becomes, and over restarts of meshd stays, a free one. ``preset`` names the
    SWIM figures (:mod:`veil.mesh.preset`). ``mdns`` looks for registered peers on this network segment. ``limits`` bound what
    others cost. ``capture`` records all that is given to receivers (:mod:`veil.mesh.capture`).
    """

    def __init__(
        self,
        identity: Identity,
        cluster: ClusterId,
        *,
        blobs: Path,
        listen: Sequence[str] = ("/ip4/127.0.0.1/tcp/0",),
        preset: str = "lan",
        capture: Path | None = None,
        mdns: bool = False,
        limits: MeshLimits | None = None,
        rng: Random | None = None,
    ) -> None:
        self.peer_id = identity.peer_id
        self._identity = identity
        self._cluster = cluster
        self._directory = blobs
        self._store = BlobStore(blobs)
        self._listen = tuple(listen)
        self._preset = preset
        self._capture = capture
        self._mdns = mdns
        self._limits = limits or MeshLimits()
        self._opened = Capture(capture) if capture else None
        self._random = rng or SystemRandom()
        self._feed = Feed()
        self._handlers: dict[str, Handler] = {}
        self._addresses: dict[PeerId, tuple[str, ...]] = {}
        self._metadata = b""
        self._members: dict[PeerId, Member] = {}
        self._own = Member(peer=self.peer_id, state=PeerState.ALIVE, incarnation=0)
        self._calls: dict[int, asyncio.Future[tuple[Done, bytes]]] = {}
        self._numbers = itertools.count(1)
        self._serving: set[asyncio.Task[None]] = set()
        self._child = Child(
            setup=self._setup, seed=identity.seed, on_message=self._take, on_start=self._resume, on_end=self._interrupt
        )

    @property
    def listen_addresses(self) -> list[str]:
        """The multiaddrs bound, for the registry (without the /p2p part)."""
        return list(self._child.addresses)

    @property
    def pid(self) -> int | None:
        """meshd's process; None while it is being started."""
        return self._child.pid

    async def start(self) -> None:
        await self._child.start()

    async def close(self) -> None:
        await self._child.stop()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        self._feed.close()
        if self._opened is not None:
            self._opened.close()

    def allow(self, peers: dict[PeerId, Sequence[str]]) -> None:
        if any(len(peer) != PEER_ID_BYTES for peer in peers):
            raise LimitExceeded(f"a peer ID has PEER_ID_BYTES={PEER_ID_BYTES}")
        self._addresses = {peer: tuple(addresses) for peer, addresses in peers.items() if peer != self.peer_id}
        self._members = {peer: member for peer, member in self._members.items() if peer in self._addresses}
        for peer in self._addresses.keys() - self._members.keys():
            self._members[peer] = Member(peer=peer, state=PeerState.SUSPECT, incarnation=0)
        self._send_allowed()

    def serve(self, protocol: str, handler: Handler) -> None:
        self._handlers[protocol] = handler

    async def request(self, peer: PeerId, protocol: str, payload: bytes, *, deadline_s: float = 5.0) -> bytes:
        _check_size("request", payload, REQUEST_MAX_BYTES)
        if peer == self.peer_id:
            return await self._ask_itself(protocol, payload, deadline_s)
        if not 0 < len(protocol) <= PROTOCOL_NAME_MAX:
            raise LimitExceeded(f"protocol {protocol!r}: a name has 1 to PROTOCOL_NAME_MAX={PROTOCOL_NAME_MAX} characters")
        if peer not in self._addresses:
            raise MeshUnavailable(f"{peer_id_text(peer)} is not registered")
        self._record(peer, protocol, payload)
        nonce = self._random.bytes(16)
        sealed = seal_request(peer, self.peer_id, protocol, nonce, payload)
        call = next(self._numbers)
        head = Ask(call=call, peer=peer, protocol=protocol, deadline_ms=_milliseconds(deadline_s))
        done, reply = await self._call(call, head, sealed, deadline_s)
        if done.status == "ok":
            return open_reply(self._identity, nonce, reply)
        raise _refusal(peer, protocol, done.status)

    async def put(self, content: bytes) -> Digest:
        _check_size("blob", content, BLOB_MAX_BYTES)
        return await asyncio.to_thread(self._store.put, content)

    async def push(self, digest: Digest, peer: PeerId, *, deadline_s: float = 10.0) -> None:
        if not self._store.has(digest):
            raise NotFound(f"blob {digest.hex()} is not kept here", hint="put it first")
        if peer not in self._addresses:
            raise MeshUnavailable(f"{peer_id_text(peer)} is not registered")
        call = next(self._numbers)
        head = Push(call=call, digest=digest, peer=peer, deadline_ms=_milliseconds(deadline_s))
        await self._call(call, head, b"", deadline_s)

    async def get(self, digest: Digest, *, sources: Sequence[PeerId] = (), deadline_s: float = 10.0) -> bytes:
        # A file that was changed is removed by the first read, and fetched like one that was never here.
        with contextlib.suppress(NotFound, DigestMismatch):
            return await asyncio.to_thread(self._store.read, digest)
        alive = [member.peer for member in self._members.values() if member.state is PeerState.ALIVE]
        wanted = [peer for peer in (list(sources) or alive) if peer in self._addresses]
        call = next(self._numbers)
        head = Fetch(call=call, digest=digest, sources=tuple(wanted), deadline_ms=_milliseconds(deadline_s))
        await self._call(call, head, b"", deadline_s)
        return await asyncio.to_thread(self._store.read, digest)

    async def has(self, digest: Digest) -> bool:
        return self._store.has(digest)

    async def drop(self, digest: Digest) -> None:
        self._store.drop(digest)

    def members(self) -> list[Member]:
        return [self._own, *self._members.values()]

    def set_metadata(self, metadata: bytes) -> None:
        _check_size("metadata", metadata, METADATA_MAX_BYTES)
        self._metadata = metadata
        self._child.send(Announce(metadata=metadata))

    def changes(self) -> AsyncIterator[Member]:
        return self._feed.subscribe()

    # Calls to meshd

    async def _call(self, call: int, head: Ask | Push | Fetch, payload: bytes, deadline_s: float) -> tuple[Done, bytes]:
        """Its answer if that is a success or a peer's refusal. Raises whatever error meshd names."""
        future: asyncio.Future[tuple[Done, bytes]] = asyncio.get_running_loop().create_future()
        self._calls[call] = future
        try:
            async with asyncio.timeout(deadline_s + GRACE_S):
                if not self._child.send(head, payload):
                    raise MeshUnavailable("meshd is not running", hint="it is being started again; try later")
                await self._child.drain()
                done, reply = await future
        except TimeoutError as error:
            raise DeadlineExceeded(f"no answer within {deadline_s} s") from error
        finally:
            del self._calls[call]
        if done.status in _ERRORS:
            raise _ERRORS[done.status](done.message)
        if done.status not in ("ok", "unserved", "failed"):
            raise MeshUnavailable(done.message or done.status)
        return done, reply

    async def _ask_itself(self, protocol: str, payload: bytes, deadline_s: float) -> bytes:
        handler = self._handlers.get(protocol)
        if handler is None:
            raise _refusal(self.peer_id, protocol, "unserved")
        try:
            async with asyncio.timeout(deadline_s):
                return await handler(self.peer_id, payload)
        except TimeoutError as error:
            raise DeadlineExceeded(f"{protocol}: no answer within {deadline_s} s") from error
        except Exception as error:
            logger.warning("serving %s failed: %s", protocol, type(error).__name__)
            raise _refusal(self.peer_id, protocol, "failed") from error

    # Messages from meshd

    def _take(self, head: Message, payload: bytes) -> None:
        match head:
            case Done():
                future = self._calls.get(head.call)
                if future is not None and not future.done():
                    future.set_result((head, payload))
            case Serve():
                task = asyncio.create_task(self._serve(head, payload))
                self._serving.add(task)
                task.add_done_callback(self._serving.discard)
            case Seen():
                self._see(head)
            case _:
                logger.error("meshd does not say %s", type(head).__name__)

    async def _serve(self, head: Serve, sealed: bytes) -> None:
        status, reply = "failed", b""
        try:
            async with asyncio.timeout(head.deadline_ms / 1000):
                status, reply = await self._answer(PeerId(head.peer), head.protocol, sealed)
        except Exception as error:
            logger.warning("serving %s to a peer failed: %s", head.protocol, type(error).__name__, exc_info=error)
        self._child.send(Served(call=head.call, status=status), reply)  # type: ignore[arg-type]
        await self._child.drain()

    async def _answer(self, peer: PeerId, protocol: str, sealed: bytes) -> tuple[str, bytes]:
        handler = self._handlers.get(protocol)
        if handler is None:
            return "unserved", b""
        nonce, payload = open_request(self._identity, peer, protocol, sealed)
        reply = await handler(peer, payload)
        _check_size("reply", reply, REQUEST_MAX_BYTES)
        self._record(peer, protocol, reply)
        return "ok", seal_reply(peer, nonce, reply)

    def _record(self, receiver: PeerId, protocol: str, content: bytes) -> None:
        """What the receiver will have once it has opened it; meshd records the same as it goes to the wire."""
        if self._opened is not None:
            self._opened.record(receiver, f"opened:{protocol}", content)

    def _see(self, seen: Seen) -> None:
        state = PeerState(seen.state)
        after = Member(peer=PeerId(seen.peer), state=state, incarnation=seen.incarnation, metadata=seen.metadata)
        if after.peer == self.peer_id:
            self._own = after
            return
        before = self._members.get(after.peer)
        if before is None:
            return
        self._members[after.peer] = after
        if before.state is not after.state:
            self._feed.publish(after)

    # meshd's beginnings and ends

    def _setup(self) -> Setup:
        return Setup(
            cluster=self._cluster,
            # Peers know the port from the registry: a meshd started again must come back on the same one.
            listen=tuple(self._child.addresses) or self._listen,
            preset=self._preset,
            blobs=str(self._directory),
            capture=str(self._capture or ""),
            mdns=self._mdns,
            limits=asdict(self._limits),
        )

    def _resume(self) -> None:
        self._send_allowed()
        if self._metadata:
            self._child.send(Announce(metadata=self._metadata))

    def _interrupt(self) -> None:
        """What was asked is lost, and nothing is known of the others until the next meshd has met them."""
        for future in self._calls.values():
            if not future.done():
                future.set_exception(MeshUnavailable("meshd ended", hint="it is being started again; try later"))
        for peer, member in self._members.items():
            if member.state is not PeerState.SUSPECT:
                self._members[peer] = Member(peer=peer, state=PeerState.SUSPECT, incarnation=0, metadata=member.metadata)
                self._feed.publish(self._members[peer])

    def _send_allowed(self) -> None:
        peers = tuple(AllowedPeer(peer=peer, addresses=addresses) for peer, addresses in self._addresses.items())
        self._child.send(Allow(peers=peers))


def _check_size(what: str, content: bytes, limit_bytes: int) -> None:
    if len(content) > limit_bytes:
        raise LimitExceeded(f"a {what} of {len(content)} bytes; at most {limit_bytes} are taken")


def _milliseconds(duration_s: float) -> int:
    return max(0, int(duration_s * 1000))


def _refusal(peer: PeerId, protocol: str, status: str) -> MeshUnavailable:
    if status == "unserved":
        return MeshUnavailable(f"{peer_id_text(peer)} does not serve {protocol!r}", hint="does it run another version?")
    return MeshUnavailable(f"{peer_id_text(peer)} failed to answer {protocol!r}", hint="its log says why")
