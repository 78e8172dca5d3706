"""Contents put on other members before a transaction names them, so that a lost node does not take them with it.

Who took a copy is remembered, because a content that too few took when they were away is to be completed when they return.
"""

import asyncio
from collections.abc import Collection, Sequence

from veil.errors import MeshUnavailable, NotFound, Unavailable
from veil.mesh.ports import Mesh, PeerState
from veil.types import Digest, PeerId, Random

COPIES = 2
"""How many other members keep a content; all of them where there are fewer."""

PUSH_TIMEOUT_S = 10.0


class Copies:
    """The contents of one node, and which members said that they keep them."""

    def __init__(self, mesh: Mesh, random: Random) -> None:
        self._mesh = mesh
        self._random = random
        self._holders: dict[Digest, set[PeerId]] = {}

    def is_alive(self, peer: PeerId) -> bool:
        """Whether ``peer`` is this node, or one that may still answer."""
        return peer == self._mesh.peer_id or self._others().get(peer) in (PeerState.ALIVE, PeerState.SUSPECT)

    def receivers(self, homes: Collection[PeerId]) -> list[PeerId]:
        """The other members alive, home nodes first, the rest in random order.

        Raises MeshUnavailable when there are others and none of them is alive. Empty: the cluster has one node.
        """
        states = self._others()
        alive = [peer for peer, state in states.items() if state is PeerState.ALIVE]
        if states and not alive:
            raise MeshUnavailable(
                f"none of the {len(states)} other members is alive: nobody else could keep a copy, so nothing was sent",
                hint="check this node's network, then apply again",
            )
        return self._in_order(alive, homes)

    async def keep(self, contents: Sequence[bytes], others: Sequence[PeerId], homes: Collection[PeerId]) -> list[Digest]:
        """Keep ``contents`` here, on COPIES of ``others`` (as far as there are so many) and on every home node among them.

        Their digests. Raises MeshUnavailable when there are others and none took them.
        """
        digests = [await self._mesh.put(content) for content in contents]
        wanted = max(min(COPIES, len(others)), sum(peer in homes for peer in others))
        taken, failures = await self._spread(digests, others, wanted)
        if others and not taken:
            raise MeshUnavailable(
                f"no other member took a copy: {failures[0].message}", hint="check this node's network, then apply again"
            ) from failures[0]
        return digests

    async def complete(self, digests: Collection[Digest], homes: Collection[PeerId]) -> bool:
        """Push what too few members keep to others that are alive; whether all have their copies now.

        Members that are dead keep none. What this node lacks itself is fetched first. Members that took a content before this
        node started are asked again, which costs a transfer.
        """
        states = self._others()
        living = {peer for peer, state in states.items() if state in (PeerState.ALIVE, PeerState.SUSPECT)}
        complete = True
        for digest in digests:
            missing = min(COPIES, len(states)) - len(self._holders.get(digest, set()) & living)
            if missing > 0 and await self._is_here(digest):
                free = [peer for peer in self._in_order(living, homes) if peer not in self._holders.get(digest, ())]
                missing -= (await self._spread([digest], free, missing))[0]
            complete = complete and missing <= 0
        return complete

    def forget(self, but: Collection[Digest]) -> None:
        """What is not among these is not asked for any more."""
        self._holders = {digest: holders for digest, holders in self._holders.items() if digest in but}

    def _others(self) -> dict[PeerId, PeerState]:
        return {member.peer: member.state for member in self._mesh.members() if member.peer != self._mesh.peer_id}

    def _in_order(self, peers: Collection[PeerId], homes: Collection[PeerId]) -> list[PeerId]:
        return sorted(peers, key=lambda peer: (peer not in homes, self._random.bytes(8)))

    async def _is_here(self, digest: Digest) -> bool:
        if await self._mesh.has(digest):
            return True
        try:
            await self._mesh.get(digest)
        except (Unavailable, NotFound):
            return False
        return True

    async def _spread(self, digests: Sequence[Digest], peers: Sequence[PeerId], wanted: int) -> tuple[int, list[Unavailable]]:
        """Push to the first ``wanted`` of ``peers`` that take all of it; how many did, and what kept others from it."""
        waiting, taken, failures = list(peers), 0, []
        while waiting and taken < wanted:
            batch, waiting = waiting[: wanted - taken], waiting[wanted - taken :]
            for failure in await asyncio.gather(*(self._push(digests, peer) for peer in batch)):
                taken += failure is None
                failures += [failure] if failure else []
        return taken, failures

    async def _push(self, digests: Sequence[Digest], peer: PeerId) -> Unavailable | None:
        try:
            await asyncio.gather(*(self._mesh.push(digest, peer, deadline_s=PUSH_TIMEOUT_S) for digest in digests))
        except Unavailable as error:
            return error
        for digest in digests:
            self._holders.setdefault(digest, set()).add(peer)
        return None
