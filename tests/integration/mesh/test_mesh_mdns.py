"""Peers whose addresses nobody registered find each other by multicast on this machine."""

import mesh_sites as sites
import pytest
import trio

from veil.mesh.mdns import Neighbours
from veil.types import ClusterId

pytestmark = pytest.mark.mesh


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
