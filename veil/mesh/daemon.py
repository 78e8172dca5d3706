"""meshd's inside: host, links, membership, requests and blobs, wired to the parent's messages."""

import logging
import random
from pathlib import Path
from typing import Protocol

import trio

from veil.config import MeshLimits
from veil.errors import ConfigInvalid, VeilError, WireInvalid
from veil.identity import Identity
from veil.mesh import control
from veil.mesh.blobs import BlobStore
from veil.mesh.capture import Capture
from veil.mesh.claims import KeySignatory
from veil.mesh.control import Allow, Announce, Ask, Done, Fetch, Leave, Push, Ready, Seen, Serve, Served, Setup
from veil.mesh.exchange import Answer, Exchange
from veil.mesh.heartbeat import Heartbeat
from veil.mesh.host import Host
from veil.mesh.links import Links
from veil.mesh.mdns import Neighbours
from veil.mesh.messages import BLOB_PROTOCOL, REQUEST_PROTOCOL, ReplyHead, RequestHead
from veil.mesh.pool import Pool
from veil.mesh.ports import Member
from veil.mesh.preset import PRESETS
from veil.mesh.quota import Quota
from veil.mesh.transfer import Transfer
from veil.types import Clock, ClusterId, Digest, PeerId
from veil.wire.codec import Message

logger = logging.getLogger(__name__)


class Parent(Protocol):
    async def send(self, head: control.FromMeshd, payload: bytes = b"") -> None: ...

    async def receive(self) -> tuple[Message, bytes]: ...


class Daemon:
    """Everything between the parent's socket and the network."""

    def __init__(self, parent: Parent, setup: Setup, identity: Identity, rng: random.Random, clock: Clock) -> None:
        if setup.preset not in PRESETS:
            raise ConfigInvalid(f"no SWIM preset {setup.preset!r}", hint=f"one of {', '.join(PRESETS)}")
        self._parent = parent
        self._listen = setup.listen
        self._allowed: set[PeerId] = set()
        self._me = identity.peer_id
        capture = Capture(Path(setup.capture)) if setup.capture else None
        try:
            limits = MeshLimits(**setup.limits)
        except TypeError as error:
            raise ConfigInvalid(f"the mesh's limits: {error}") from error
        self._host = Host(identity.seed, self._allows, capture, limits)
        self._links = Links(self._host, self._me, rng)
        self._store = BlobStore(Path(setup.blobs))
        self._store.sweep()
        requests = Pool(self._host, self._links, REQUEST_PROTOCOL)
        blobs = Pool(self._host, self._links, BLOB_PROTOCOL)
        self._pools = (requests, blobs)
        self._exchange = Exchange(self._host, requests, self._serve, limits)
        self._transfer = Transfer(self._host, blobs, self._store, Quota.within(self._store, limits), limits)
        self._seen, self._seen_out = trio.open_memory_channel[Seen](float("inf"))
        self._heartbeat = Heartbeat(
            self._host,
            preset=PRESETS[setup.preset],
            signatory=KeySignatory(identity, ClusterId(setup.cluster)),
            rng=rng,
            clock=clock,
            on_change=self._tell,
        )
        self._host.on_connection = self._on_connection
        self._links.on_unreachable = self._heartbeat.unreachable
        self._neighbours = Neighbours(self._host, ClusterId(setup.cluster), self._links.hint) if setup.mdns else None
        self._serving: dict[int, tuple[trio.Event, list[Answer]]] = {}
        self._calls = 0

    async def run(self) -> None:
        """Until the parent says Leave or goes away. Raises MeshUnavailable, ConfigInvalid."""
        async with self._host.run(self._listen), trio.open_nursery() as nursery:
            await self._parent.send(Ready(addresses=tuple(self._host.addresses())))
            nursery.start_soon(self._heartbeat.run)
            nursery.start_soon(self._tell_all)
            if self._neighbours is not None:
                nursery.start_soon(self._neighbours.run)
            while True:
                head, payload = await self._parent.receive()
                if isinstance(head, Leave):
                    break
                self._take(head, payload, nursery)
            await self._heartbeat.leave()
            nursery.cancel_scope.cancel()

    def connected(self, peer: PeerId) -> bool:
        """Whether there is a connection to ``peer``."""
        return self._host.connected(peer)

    def _take(self, head: Message, payload: bytes, nursery: trio.Nursery) -> None:
        match head:
            case Allow():
                self._allow({PeerId(one.peer): one.addresses for one in head.peers}, nursery)
            case Announce():
                heartbeat = self._heartbeat
                heartbeat.carry_out(heartbeat.swim.set_metadata(head.metadata, heartbeat.now_s()))
            case Ask() | Push() | Fetch():
                nursery.start_soon(self._call, head, payload)
            case Served():
                waiting = self._serving.get(head.call)
                if waiting is not None:
                    waiting[1].append(Answer(ReplyHead(status=head.status, size_bytes=len(payload)), payload))
                    waiting[0].set()
            case _:
                raise WireInvalid(f"a parent does not say {type(head).__name__}")

    def _allow(self, addresses: dict[PeerId, tuple[str, ...]], nursery: trio.Nursery) -> None:
        addresses.pop(self._me, None)
        self._allowed = set(addresses)
        self._heartbeat.allow(self._allowed)
        self._links.set_peers(addresses, nursery)

    def _allows(self, peer: PeerId) -> bool:
        return peer in self._allowed

    def _on_connection(self, peer: PeerId, connected: bool) -> None:
        if not connected:
            for pool in self._pools:
                pool.forget(peer)
        self._links.noticed(peer)
        self._heartbeat.connection(peer, connected)

    async def _call(self, head: Ask | Push | Fetch, payload: bytes) -> None:
        status, message, answer = "ok", "", b""
        deadline_s = head.deadline_ms / 1000
        try:
            if isinstance(head, Ask):
                status, answer = await self._ask(head, payload, deadline_s)
            elif isinstance(head, Push):
                await self._transfer.push(Digest(head.digest), PeerId(head.peer), deadline_s)
            else:
                await self._transfer.fetch(Digest(head.digest), [PeerId(peer) for peer in head.sources], deadline_s)
        except VeilError as error:
            status, message = error.reason, error.message
        except OSError as error:
            status, message = "MeshUnavailable", f"the blob directory: {error}"
        await self._parent.send(Done(call=head.call, status=status, message=message), answer)

    async def _ask(self, head: Ask, payload: bytes, deadline_s: float) -> tuple[str, bytes]:
        reply, sealed = await self._exchange.ask(PeerId(head.peer), head.protocol, payload, deadline_s)
        return reply.status, sealed

    async def _serve(self, peer: PeerId, head: RequestHead, sealed: bytes) -> Answer:
        self._calls += 1
        call = self._calls
        answered, answers = self._serving[call] = (trio.Event(), [])
        try:
            message = Serve(call=call, peer=peer, protocol=head.protocol, deadline_ms=head.deadline_ms)
            await self._parent.send(message, sealed)
            await answered.wait()
            return answers[0]
        finally:
            del self._serving[call]

    def _tell(self, member: Member) -> None:
        seen = Seen(peer=member.peer, state=member.state, incarnation=member.incarnation, metadata=member.metadata)
        self._seen.send_nowait(seen)

    async def _tell_all(self) -> None:
        async for seen in self._seen_out:
            await self._parent.send(seen)
