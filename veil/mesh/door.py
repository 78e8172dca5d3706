"""Who may begin a handshake: decided by address, before a byte is read.

A Noise handshake costs several milliseconds of CPU and nobody is known before its end, so what is limited is handshakes
that lead to nothing: each takes a token of its address and one of the whole node's, and a handshake of a registered peer
gives both back. Peers behind one address are therefore not in each other's way. A registered peer that connects over and
over has tokens of its own, and stops giving them back when those are used up.

An attacker who shares an address with peers can keep them from dialling in, not from being dialled (:mod:`veil.mesh.links`
dials from both sides).
"""

import ipaddress
from collections.abc import Callable

from veil.config import MeshLimits
from veil.mesh.budget import Bucket, Buckets
from veil.types import PeerId

TOTAL_BURST = 256
"""Of all addresses together: with the timeout of a handshake it bounds what can be under way, about 900."""

TOTAL_PER_S = 64.0

PEER_BURST = 16
PEER_PER_S = 0.5
"""Handshakes of one registered peer: a restart makes one or two, a flapping network one each few seconds."""

ADDRESSES_MAX = 4096
PEERS_MAX = 4096

IPV6_PREFIX = 64
"""Whoever has one IPv6 address has 2^64 of them."""


class Door:
    """Admits connections; is told of those that became a registered peer's."""

    def __init__(self, now_s: Callable[[], float], limits: MeshLimits) -> None:
        self.refused = 0
        """Connections turned away without a handshake."""
        self._now_s = now_s
        self._total = Bucket.full(TOTAL_BURST, TOTAL_PER_S, now_s())
        self._addresses: Buckets[str] = Buckets(limits.handshake_burst, limits.handshakes_per_s, ADDRESSES_MAX, now_s)
        self._peers: Buckets[PeerId] = Buckets(PEER_BURST, PEER_PER_S, PEERS_MAX, now_s)

    def admit(self, address: str) -> bool:
        """Whether a connection from the IP ``address`` may begin its handshake."""
        if self._addresses.take(_network_of(address)):
            if self._total.take(1, self._now_s()):
                return True
            self._addresses.give_back(_network_of(address))
        self.refused += 1
        return False

    def passed(self, address: str, peer: PeerId) -> None:
        """The handshake of ``address`` ended well, with a registered peer."""
        if self._peers.take(peer):
            self._addresses.give_back(_network_of(address))
            self._total.give_back(1)


def _network_of(address: str) -> str:
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip, IPV6_PREFIX), strict=False))
    return str(ip)
