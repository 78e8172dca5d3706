"""Down marks of three operators on a real registry: signed over the mesh, sent by one, taken back by the node itself."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from veil.chain.projector import follow
from veil.identity import Identity
from veil.mesh.fake import FakeNetwork
from veil.mesh.ports import PeerState
from veil.node.down_marks import DownMarks
from veil.node.view import NodeView
from veil.placement.local import Local
from veil.placement.service import MeshLiveness
from veil.placement.settings import DEV
from veil.store.projection import Projection
from veil.types import SystemClock, SystemRandom
from veil.wire.nodes import prove_possession

pytestmark = pytest.mark.chain

SETTINGS = replace(DEV, renew_s=0.05, reserve_s=0.1, lease_s=0.3)


async def test_operators_mark_a_dead_node_and_it_comes_back(deployed: Any) -> None:
    network, clock = FakeNetwork(), SystemClock()
    admin = await deployed.client()
    identities = [Identity.generate() for _ in range(3)]
    projections, marks, tasks = [], [], []
    for index, identity in enumerate(identities, 1):
        chain = await deployed.client(index)
        proof = prove_possession(identity, chain.cluster, chain.operator)
        await chain.register_node_with_proof(identity.peer_id, chain.operator, proof)
        await admin.approve_node(identity.peer_id)
        projection, mesh = Projection(None, chain.cluster), network.mesh(identity.peer_id)
        await mesh.start()
        mesh.allow({other.peer_id: () for other in identities})
        local = Local(
            identity=identity,
            cluster=chain.cluster,
            view=NodeView(projection, lambda: None),
            clock=clock,
            random=SystemRandom(),
            liveness=MeshLiveness(mesh, clock),
            settings=SETTINGS,
        )
        projections.append(projection)
        marks.append(DownMarks(local=local, mesh=mesh, chain=chain, holds_lease=lambda _: False))
        tasks.append(asyncio.create_task(follow(chain, projection)))
    lost, mesh = identities[2].peer_id, network.mesh(identities[2].peer_id)
    for identity in identities:
        network.set_state(identity.peer_id, PeerState.ALIVE, incarnation=int(time.time()))

    async def until(done: Callable[[], bool], *syncing: DownMarks) -> None:
        async with asyncio.timeout(20):
            while not done():
                await asyncio.gather(*(one.sync() for one in syncing))
                await asyncio.sleep(0.02)

    def mark() -> int | None:
        row = projections[0].node(lost)
        return row.down_incarnation if row else None

    await until(lambda: all(len(projection.nodes()) == 3 for projection in projections))
    network.kill(lost)
    network.set_state(lost, PeerState.DEAD)
    await until(lambda: mark() is not None, *marks[:2])
    marked = mark()
    assert marked is not None
    network.revive(lost)
    mesh._incarnation = marked + 5
    network.announce(mesh.own())
    await until(lambda: mark() is None, *marks)
    assert (await admin.read("getNode", lost))[3] is False
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for projection in projections:
        projection.close()
