"""Peers whose addresses nobody registered find each other by multicast on this machine."""

import socket

import mesh_sites as sites
import pytest
import trio

from veil.mesh.host import Host
from veil.mesh.mdns import Neighbours
from veil.types import ClusterId


def multicast_works() -> bool:
    """Whether a datagram to mDNS's group comes back on this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(1)
        try:
            receiver.bind(("", 0))
            receiver.setsockopt(
                socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("224.0.0.251") + socket.inet_aton("0.0.0.0")
            )
            receiver.sendto(b"?", ("224.0.0.251", receiver.getsockname()[1]))
            return receiver.recv(1) == b"?"
        except OSError:
            return False


pytestmark = [pytest.mark.mesh, pytest.mark.skipif(not multicast_works(), reason="this machine has no multicast")]


def test_registered_peers_find_each_other_and_others_are_not_dialled(tmp_path):
    async def scenario() -> None:
        async with sites.sites(tmp_path, 3) as (a, b, stranger), trio.open_nursery() as nursery:
            for site in (a, b, stranger):
                nursery.start_soon(Neighbours(site.host, ClusterId(b"m" * 32), site.links.hint).run)
            assert a.nursery is not None
            a.registered, b.registered = {b.peer}, {a.peer}
            a.links.set_peers({b.peer: ()}, a.nursery)
            b.links.set_peers({a.peer: ()}, a.nursery)
            await sites.until(lambda: a.host.connected(b.peer) and b.host.connected(a.peer), timeout_s=60)
            assert not a.host.connected(stranger.peer)
            assert stranger.peer not in a.links._hints
            nursery.cancel_scope.cancel()

    sites.play(scenario)


def test_where_there_is_no_multicast_the_mesh_works_without(tmp_path, monkeypatch, caplog):
    def no_network(self, service):
        raise OSError("no such device")

    monkeypatch.setattr(Host, "discovery", no_network)

    async def scenario() -> None:
        async with sites.sites(tmp_path, 1) as (site,):
            await Neighbours(site.host, ClusterId(b"m" * 32), site.links.hint).run()

    sites.play(scenario)
    assert "no such device" in caplog.text
