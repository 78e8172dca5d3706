"""Peers on the same network segment, by mDNS: for development, where addresses change faster than blocks come.

Whoever answers may say what it likes. What is heard is one more address to try for a peer that the registry has; Noise proves
who is there. Every cluster has a service of its own, so that others are not heard at all. zeroconf runs in threads.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import trio
import zeroconf
from libp2p.discovery.events.peerDiscovery import peerDiscovery

from veil.errors import ConfigInvalid
from veil.identity import parse_peer_id
from veil.mesh.host import Host
from veil.types import ClusterId, PeerId

logger = logging.getLogger(__name__)

ADDRESSES_MAX = 4
"""Of one peer's; what else it says is not tried."""

Heard = Callable[[PeerId, Sequence[str]], None]


class Neighbours:
    """Announces this host and hears of others."""

    def __init__(self, host: Host, cluster: ClusterId, heard: Heard) -> None:
        self._host = host
        self._service = f"_veil-{cluster.hex()[:8]}._udp.local."
        self._heard = heard

    async def run(self) -> None:
        """Until cancelled; the host must be listening. Where there is no multicast, it says so and ends."""
        token = trio.lowlevel.current_trio_token()

        def found(info: Any) -> None:
            token.run_sync_soon(self._hear, str(info.peer_id), [str(address) for address in info.addrs])

        peerDiscovery.register_peer_discovered_handler(found)
        try:
            await self._announce()
        except (OSError, zeroconf.Error) as error:
            logger.warning("peers are not looked for by multicast: %s", error)
        finally:
            peerDiscovery.unregister_peer_discovered_handler(found)

    async def _announce(self) -> None:
        discovery = await trio.to_thread.run_sync(self._host.discovery, self._service)
        try:
            await trio.to_thread.run_sync(discovery.broadcaster.register)
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(discovery.stop)

    def _hear(self, text: str, addresses: Sequence[str]) -> None:
        try:
            peer = parse_peer_id(text)
        except ConfigInvalid:
            return
        self._heard(peer, addresses[:ADDRESSES_MAX])
