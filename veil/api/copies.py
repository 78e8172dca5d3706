"""Contents put on other members before a transaction names them, so that a lost node does not take them with it."""

import asyncio
from collections.abc import Sequence

from veil.errors import MeshUnavailable, Unavailable
from veil.mesh.ports import Mesh, PeerState
from veil.types import Digest, PeerId, Random

COPIES = 2
"""How many members keep a content: this node and others."""

PUSH_TIMEOUT_S = 10.0


def receivers(mesh: Mesh, homes: Sequence[PeerId], random: Random) -> list[PeerId]:
    """The other members alive, home nodes first, the rest in random order.

    Raises MeshUnavailable when there are others and none of them is alive. Empty: the cluster has one node.
    """
    others = [member for member in mesh.members() if member.peer != mesh.peer_id]
    alive = [member.peer for member in others if member.state is PeerState.ALIVE]
    if others and not alive:
        raise MeshUnavailable(
            f"none of the {len(others)} other members is alive: nobody else could keep a copy, so nothing was sent",
            hint="check this node's network, then apply again",
        )
    return sorted(alive, key=lambda peer: (peer not in homes, random.bytes(8)))


async def keep(
    mesh: Mesh, contents: Sequence[bytes], others: Sequence[PeerId], homes: Sequence[PeerId], copies: int = COPIES
) -> list[Digest]:
    """Keep ``contents`` here, on every home node alive, and on min(copies - 1, others) others in all; their digests.

    Raises MeshUnavailable when there are others and none took them.
    """
    digests = [await mesh.put(content) for content in contents]
    wanted = max(min(copies - 1, len(others)), min(1, len(others)), sum(peer in homes for peer in others))
    waiting, taken, failures = list(others), 0, []
    while waiting and taken < wanted:
        batch, waiting = waiting[: wanted - taken], waiting[wanted - taken :]
        for failure in await asyncio.gather(*(_push(mesh, digests, peer) for peer in batch)):
            taken += failure is None
            failures += [failure] if failure else []
    if others and not taken:
        raise MeshUnavailable(
            f"no other member took a copy: {failures[0].message}", hint="check this node's network, then apply again"
        ) from failures[0]
    return digests


async def _push(mesh: Mesh, digests: Sequence[Digest], peer: PeerId) -> Unavailable | None:
    try:
        await asyncio.gather(*(mesh.push(digest, peer, deadline_s=PUSH_TIMEOUT_S) for digest in digests))
    except Unavailable as error:
        return error
    return None
