"""The libp2p host: TCP, Noise and yamux, nothing else, for registered peers only.

The stock host also accepts /plaintext and secio, with which anybody who knows a public key can pass for its owner. And its
connection gate knows only IP addresses, so registration is checked here, right after the Noise handshake has proved the
peer ID and before a muxer exists, and again for each stream, because a peer can be struck off while it connects. How many
handshakes an address may cause is :mod:`veil.mesh.door`'s; what a peer's connection may hold, :mod:`veil.mesh.muxer`'s.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import trio
from libp2p import new_host
from libp2p.abc import INotifee
from libp2p.crypto.ed25519 import create_new_key_pair as ed25519_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as x25519_key_pair
from libp2p.custom_types import TProtocol
from libp2p.discovery.mdns.mdns import MDNSDiscovery
from libp2p.exceptions import BaseLibp2pError
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.connection_gate import ConnectionGate
from libp2p.peer.id import ID
from libp2p.rcmgr import ResourceManager
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from multiaddr.multiaddr import Multiaddr

from veil.config import MeshLimits
from veil.errors import ConfigInvalid, DeadlineExceeded, MeshUnavailable
from veil.identity import parse_peer_id, peer_id_text
from veil.mesh.capture import Capture
from veil.mesh.door import Door
from veil.mesh.muxer import BoundedYamux, check_version
from veil.mesh.readahead import ReadAhead, Session
from veil.mesh.wire import Wire, libp2p_errors
from veil.types import PeerId, Secret

DIAL_TIMEOUT_S = 10.0
"""For one address: TCP, Noise and yamux; 30 ms on loopback, seconds when a hundred nodes start on one machine."""

HANDSHAKE_TIMEOUT_S = 10.0
STREAM_OPEN_TIMEOUT_S = 15.0
"""Two round trips; as for a dial, one that is given up too early is begun again and costs both ends more."""

IDS_KEPT = 8192
"""Peer IDs whose other form is remembered: base58 is slow, and libp2p's own form is compared with ours at each event."""

CONNECTIONS_MAX = 1_000_000
"""libp2p 0.8.1 takes an inbound slot for each connection ever accepted and gives it back when the host ends, not when the
connection does: a low number would in time refuse everybody. Who may connect is decided by the gate."""

Allowed = Callable[[PeerId], bool]
StreamHandler = Callable[[Wire], Awaitable[None]]


class _NotRegistered(BaseLibp2pError):
    pass


class GatedNoise(NoiseTransport):
    """Noise that lets only registered peers through."""

    allowed: Allowed
    door: Door
    refused = 0

    async def secure_inbound(self, conn: Any) -> Any:
        reading: Any = ReadAhead(conn)
        secured = await self._gate(await super().secure_inbound(reading))
        remote, peer = conn.get_remote_address(), _peer_of(secured.get_remote_peer())
        if remote is not None and peer is not None:
            self.door.passed(remote[0], peer)
        return secured

    async def secure_outbound(self, conn: Any, peer_id: ID) -> Any:
        reading: Any = ReadAhead(conn)
        return await self._gate(await super().secure_outbound(reading, peer_id))

    async def _gate(self, secured: Any) -> Any:
        peer = _peer_of(secured.get_remote_peer())
        if peer is not None and self.allowed(peer):
            return Session(secured)
        self.refused += 1
        await secured.close()
        raise _NotRegistered(f"{secured.get_remote_peer()} is not registered")


class _DoorGate(ConnectionGate):
    """libp2p asks it about every connection that it accepts, before the first byte, and about nothing else that Veil does."""

    def __init__(self, door: Door) -> None:
        super().__init__()
        self._door = door

    async def is_allowed(self, remote_addr: Multiaddr) -> bool:
        text = str(remote_addr)
        return self._door.admit(text.split("/")[2]) if text.startswith(("/ip4/", "/ip6/")) else False


class _ConnectionEvents(INotifee):
    """Tells when a peer's first connection is made and its last one ends."""

    def __init__(self, host: "Host") -> None:
        self._host = host

    async def connected(self, network: Any, conn: Any) -> None:
        self._host.notice(conn.muxed_conn.peer_id)

    async def disconnected(self, network: Any, conn: Any) -> None:
        self._host.notice(conn.muxed_conn.peer_id)

    async def opened_stream(self, network: Any, stream: Any) -> None:
        return

    async def closed_stream(self, network: Any, stream: Any) -> None:
        return

    async def listen(self, network: Any, multiaddr: Any) -> None:
        return

    async def listen_close(self, network: Any, multiaddr: Any) -> None:
        return


class Host:
    """One node's end of the mesh. Peers that ``allowed`` denies cannot connect, be dialled or open a stream.

    Raises ConfigInvalid where another libp2p is installed than the one it was made for.
    """

    def __init__(self, seed: Secret, allowed: Allowed, capture: Capture | None = None, limits: MeshLimits | None = None) -> None:
        check_version(version("libp2p"))
        keys = ed25519_key_pair(seed.reveal())
        self.noise = GatedNoise(keys, noise_privkey=x25519_key_pair().private_key)
        self.noise.allowed = allowed
        self.door = self.noise.door = Door(time.monotonic, limits or MeshLimits())
        if limits is not None:
            BoundedYamux.limits = limits
        self.on_connection: Callable[[PeerId, bool], None] = lambda peer, connected: None
        """Called with True when a peer is connected, False when it no longer is."""
        self._allowed = allowed
        self._capture = capture
        self._connected: set[PeerId] = set()
        self._host = new_host(
            key_pair=keys,
            sec_opt={NOISE: self.noise},
            muxer_opt={TProtocol(YAMUX): BoundedYamux},
            # Only what the registry says is dialled: no automatic connections, no addresses learnt from peers.
            connection_config=ConnectionConfig(
                max_connections=CONNECTIONS_MAX,
                min_connections=0,
                low_watermark=0,
                high_watermark=CONNECTIONS_MAX,
                inbound_upgrade_timeout=HANDSHAKE_TIMEOUT_S,
                outbound_upgrade_timeout=HANDSHAKE_TIMEOUT_S,
            ),
            disable_identify_address_discovery=True,
            # Its circuit breaker shuts the host for a minute after five failed dials; its rate limit is one for all peers.
            resource_manager=ResourceManager(
                enable_metrics=False,
                enable_connection_tracking=False,
                enable_memory_limits=False,
                enable_circuit_breaker=False,
                enable_graceful_degradation=False,
                enable_rate_limiting=False,
            ),
        )
        # libp2p asks whoever connects for all about itself, both ways: as much work again as the handshake. The registry says
        # it all; who asks this node is answered.
        setattr(self._host, "_should_identify_peer", lambda peer_id: False)  # noqa: B010 (it is private)
        network: Any = self._host.get_network()
        self._network = network
        self._network.connection_gate = _DoorGate(self.door)
        # It would dial whomever it has an address of, up to the middle between the watermarks, the revoked as well.
        setattr(self._network.auto_connector, "maybe_connect", _nobody)  # noqa: B010 (it is a method)
        self._network.retry_config = RetryConfig(max_retries=0)
        self._network.register_notifee(_ConnectionEvents(self))

    def run(self, listen: Sequence[str]) -> AbstractAsyncContextManager[None]:
        """Listens while the context is open. Raises ConfigInvalid for a bad address, MeshUnavailable for a taken one."""

        @asynccontextmanager
        async def running() -> AsyncIterator[None]:
            addresses = [_parse_address(text) for text in listen]
            async with self._host.run(listen_addrs=addresses):
                if len(self.addresses()) < len(addresses):
                    raise MeshUnavailable(f"cannot listen on {', '.join(listen)}", hint="is another node using this port?")
                try:
                    yield
                finally:
                    # Without it the remote ends keep every connection.
                    with trio.CancelScope(shield=True), trio.move_on_after(2):
                        await self._host.close()

        return running()

    def addresses(self) -> list[str]:
        """The multiaddrs bound, without the /p2p part."""
        return [str(address) for address in self._host.get_transport_addrs()]

    def discovery(self, service: str) -> MDNSDiscovery:
        """mDNS for the addresses bound; blocks while it looks for network interfaces. The caller starts and stops it."""
        peer, addresses = self._host.get_id(), self.addresses()
        port = int(addresses[0].rsplit("/", 1)[1])
        announced = [f"{address}/p2p/{peer}" for address in addresses]
        return MDNSDiscovery(self._network, port=port, listen_addrs=announced, service_type=service)

    def serve(self, protocol: str, handler: StreamHandler) -> None:
        """Runs ``handler`` for each stream of ``protocol`` that a registered peer opens."""

        async def on_stream(stream: Any) -> None:
            peer = _peer_of(stream.muxed_conn.peer_id)
            if peer is None or not self._allowed(peer):
                await stream.reset()
                return
            await handler(Wire(stream, peer, protocol, self._capture))

        self._host.set_stream_handler(TProtocol(protocol), on_stream)

    def connected(self, peer: PeerId) -> bool:
        return peer in self._connected

    def connections(self) -> int:
        """How many peers are connected."""
        return len(self._connected)

    async def dial(self, peer: PeerId, address: str) -> None:
        """Connects to ``peer`` at ``address``, which its owner wrote and may be anything. Raises MeshUnavailable."""
        try:
            target = _parse_address(address)
        except ConfigInvalid as error:
            raise MeshUnavailable(f"{peer_id_text(peer)}: {error.message}") from error
        with libp2p_errors(f"{peer_id_text(peer)} at {address}"):
            try:
                with trio.fail_after(DIAL_TIMEOUT_S):
                    await self._network.dial_addr(target, _id_of(peer))
            except trio.TooSlowError as error:
                raise MeshUnavailable(f"{peer_id_text(peer)} at {address}: no connection in {DIAL_TIMEOUT_S} s") from error
        self.notice(_id_of(peer))

    async def open(self, peer: PeerId, protocol: str) -> Wire:
        """A new stream over an existing connection. Raises MeshUnavailable or DeadlineExceeded."""
        if not self._allowed(peer) or not self.connected(peer):
            raise MeshUnavailable(f"{peer_id_text(peer)} is not connected")
        try:
            with trio.fail_after(STREAM_OPEN_TIMEOUT_S), libp2p_errors(f"opening a stream to {peer_id_text(peer)}"):
                stream = await self._host.new_stream(_id_of(peer), [TProtocol(protocol)])
        except trio.TooSlowError as error:
            raise DeadlineExceeded(f"{peer_id_text(peer)}: no stream in {STREAM_OPEN_TIMEOUT_S} s") from error
        return Wire(stream, peer, protocol, self._capture)

    async def cut_off(self, peer: PeerId) -> None:
        """Ends every connection with ``peer``, live streams included."""
        with trio.move_on_after(2), libp2p_errors(f"closing {peer_id_text(peer)}"):
            await self._network.close_peer(_id_of(peer))
        self.notice(_id_of(peer))

    def notice(self, peer_id: ID) -> None:
        """Compares what was known of a peer's connection with what is."""
        peer = _peer_of(peer_id)
        if peer is None:
            return
        now = any(not connection.is_closed for connection in self._network.get_connections(peer_id))
        if now != (peer in self._connected):
            (self._connected.add if now else self._connected.discard)(peer)
            self.on_connection(peer, now)


async def _nobody() -> None:
    """Whom libp2p shall connect to by itself."""


@lru_cache(IDS_KEPT)
def _id_of(peer: PeerId) -> ID:
    return ID.from_base58(peer_id_text(peer))


@lru_cache(IDS_KEPT)
def _peer_of(peer_id: ID) -> PeerId | None:
    """None for a key that is not Ed25519: no such peer is ever registered."""
    try:
        return parse_peer_id(str(peer_id))
    except ConfigInvalid:
        return None


def _parse_address(text: str) -> Multiaddr:
    try:
        return Multiaddr(text)
    except Exception as error:
        # multiaddr's codecs raise what they like: ValueError, KeyError, binascii.Error, its own classes
        raise ConfigInvalid(f"{text!r} is not a multiaddr", hint="expected the form /ip4/127.0.0.1/tcp/0") from error
