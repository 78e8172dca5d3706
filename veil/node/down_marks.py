"""Down marks: what all members see dead is marked so on chain, and who sees itself marked comes back by itself.

SWIM is each node's own view; a mark is the same for every reader, so that no round counts on a dead node and none waits for it.
It takes the signatures of k distinct operators (:meth:`veil.chain.ports.Chain.mark_down`). They are collected by one member, in
the order in which coordinators are ranked; the next one takes over a lease later. Who signs has looked for itself: SWIM says
dead, for a whole lease, no lease of the node is left, and this node is not the one that is cut off. What is signed is the
incarnation that died, or the one that the node itself last gave the registry, where that is higher: no node can put itself
out of reach.

The way back is the marked node's own: it answers in the mesh with a higher incarnation, and says that one to the registry.
Signatures for lower ones are worth nothing afterwards.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from veil.chain.ports import Chain
from veil.errors import Conflict, VeilError
from veil.identity import peer_id_text
from veil.mesh.budget import Bucket, Buckets
from veil.mesh.ports import Mesh, PeerState
from veil.node.membership import MEMBER_STATUSES
from veil.placement.local import Local
from veil.placement.ranking import shard_of
from veil.store.rows import NodeRow
from veil.types import Address, ObjectId, PeerId
from veil.wire.codec import decode, encode
from veil.wire.marks import MarkDownAnswer, MarkDownQuestion

log = logging.getLogger(__name__)

MARK_DOWN = "mark-down/1"
CHECK_S = 1.0
ASK_DEADLINE_S = 5.0

MARKS_OF_PEER = 2
MARKS_OF_PEER_PER_S = 1 / 3600
"""One that comes and goes is marked twice at once, then once an hour: each mark is a transaction of this operator."""

MARKS = 10
MARKS_PER_S = 10 / 3600
"""Of all nodes together: 10 at once, 10 an hour. What this member does not send any more, the next rank does."""

RETURNS = 3
RETURNS_PER_S = 1 / 600
"""This node's own ways back: 3 at once, 6 an hour."""

PEERS_MAX = 1024
"""Nodes whose marks are counted."""


@dataclass(slots=True)
class _Death:
    """A member that SWIM holds dead here."""

    incarnation: int
    since_s: float
    ask_s: float = 0.0
    """Not asked about again before then."""
    signed: tuple[int, bytes] | None = None
    """The incarnation that this operator signed, and its signature, once it was asked for."""


class DownMarks:
    """Level-triggered. ``holds_lease`` says whether a node still has a lease here that is not over."""

    def __init__(self, *, local: Local, mesh: Mesh, chain: Chain, holds_lease: Callable[[PeerId], bool]) -> None:
        self._local = local
        self._mesh = mesh
        self._chain = chain
        self._holds_lease = holds_lease
        self._deaths: dict[PeerId, _Death] = {}
        self._marked: tuple[int, float] | None = None
        """The mark against this node, and since when it is seen (monotonic)."""
        self._marks = Buckets[PeerId](MARKS_OF_PEER, MARKS_OF_PEER_PER_S, PEERS_MAX, local.now)
        self._all_marks = Bucket.full(MARKS, MARKS_PER_S, local.now())
        self._returns = Bucket.full(RETURNS, RETURNS_PER_S, local.now())
        mesh.serve(MARK_DOWN, self._serve)

    async def sync(self) -> None:
        """Come back if this node is marked; else mark whom it is this node's turn to mark."""
        members = self._look()
        own = members.get(self._local.peer)
        if own is None:
            return
        if own.down_incarnation is not None:
            await self._come_back(own.down_incarnation, members)
            return
        self._marked = None
        for peer in [peer for peer in self._deaths if self._is_due(peer, members)]:
            await self._mark(peer, members)

    # what is seen from here

    def _look(self) -> dict[PeerId, NodeRow]:
        """The registry's members; notes since when which of them are dead."""
        rows = self._local.view.nodes()
        members = {row.peer: row for row in rows if row.proven and row.status in MEMBER_STATUSES}
        dead = {m.peer: m.incarnation for m in self._mesh.members() if m.state is PeerState.DEAD and m.peer in members}
        now_s = self._local.now()
        for peer, incarnation in dead.items():
            known = self._deaths.get(peer)
            if known is None or known.incarnation != incarnation:
                self._deaths[peer] = _Death(incarnation, now_s)
        self._deaths = {peer: death for peer, death in self._deaths.items() if peer in dead}
        return members

    def _alive(self, members: dict[PeerId, NodeRow]) -> set[PeerId]:
        """Members that are up and not marked, this node included."""
        up = {member.peer for member in self._mesh.members() if member.state is PeerState.ALIVE}
        return {peer for peer in members.keys() & up if members[peer].down_incarnation is None} | {self._local.peer}

    def _is_cut_off(self, members: dict[PeerId, NodeRow]) -> bool:
        """Whether this node sees no more than half of the members that are not marked: then it may be the one that is away."""
        standing = {peer for peer, row in members.items() if row.down_incarnation is None} | {self._local.peer}
        return 2 * len(self._alive(members)) <= len(standing)

    def _doubt(self, peer: PeerId, members: dict[PeerId, NodeRow]) -> str:
        """Why this node does not sign that ``peer`` is dead; empty when it does."""
        row, death = members.get(peer), self._deaths.get(peer)
        if row is None:
            return "NotMember"
        if row.down_incarnation is not None:
            return "AlreadyMarked"
        if death is None:
            return "NotDead"
        if self._local.now() - death.since_s < self._local.settings.lease_s or self._holds_lease(peer):
            return "HeardRecently"
        if members[self._local.peer].down_incarnation is not None or self._is_cut_off(members):
            return "CutOff"
        return ""

    # marking

    def _is_due(self, peer: PeerId, members: dict[PeerId, NodeRow]) -> bool:
        """Whether it is this node's turn: those ranked before it that are alive have had a lease each."""
        death, now_s, lease_s = self._deaths[peer], self._local.now(), self._local.settings.lease_s
        if now_s < death.ask_s or self._doubt(peer, members):
            return False
        turn = list(self._ranked(peer, members)).index(self._local.peer)
        return now_s - death.since_s >= (1 + turn) * lease_s

    def _ranked(self, peer: PeerId, members: dict[PeerId, NodeRow]) -> Iterator[PeerId]:
        """Those who may collect and sign, in the order of the shard that ``peer`` hashes to, newcomers last."""
        ranking, alive = self._local.ranking, self._alive(members)
        order = ranking.ranks(shard_of(ObjectId(peer)), ranking.term())
        yield from (one for one in order if one in alive)
        yield from sorted(alive - set(order))

    async def _mark(self, peer: PeerId, members: dict[PeerId, NodeRow]) -> None:
        """One try. What fails is tried again a lease later: nothing waits for it."""
        death, name = self._deaths[peer], peer_id_text(peer)[-8:]
        death.ask_s = self._local.now() + self._local.settings.lease_s
        try:
            incarnation, needed = await self._incarnation(peer, death), await self._chain.down_signers()
            found: dict[Address, bytes] = {self._chain.operator: await self._sign(peer, death, incarnation)}
            await self._collect(found, peer, incarnation, needed, members)
            if len(found) < needed:
                log.info("%s is dead, but only %d of %d operators say so", name, len(found), needed)
            elif not self._doubt(peer, self._look()) and self._may_pay(peer):
                await self._chain.mark_down(peer, incarnation, list(found.values()))
                log.warning("%s is marked down at incarnation %d, by %d operators", name, incarnation, needed)
        except Conflict as error:
            log.info("%s is not marked down: %s", name, error.message)
        except VeilError as error:
            log.warning("%s is not marked down: %s: %s", name, error.reason, error.message)

    def _may_pay(self, peer: PeerId) -> bool:
        now_s = self._local.now()
        if not self._marks.take(peer):
            return False
        if self._all_marks.take(1, now_s):
            return True
        self._marks.give_back(peer)
        return False

    async def _incarnation(self, peer: PeerId, death: _Death) -> int:
        """What is to be signed: the same for every member that sees this death."""
        return max(death.incarnation, await self._chain.down_floor(peer) + 1)

    async def _collect(
        self, found: dict[Address, bytes], peer: PeerId, incarnation: int, needed: int, members: dict[PeerId, NodeRow]
    ) -> None:
        """Adds signatures to ``found``, until ``needed`` distinct operators have signed; each is verified."""
        waiting = [one for one in self._ranked(peer, members) if one != self._local.peer]
        while len(found) < needed and waiting:
            asked: dict[Address, PeerId] = {}
            for one in waiting:
                operator = members[one].operator
                if operator not in found and operator not in asked and len(found) + len(asked) < needed:
                    asked[operator] = one
            if not asked:
                break
            waiting = [one for one in waiting if one not in asked.values()]
            answers = await asyncio.gather(*(self._ask(one, peer, incarnation) for one in asked.values()))
            for (operator, one), signature in zip(asked.items(), answers, strict=True):
                if self._chain.mark_down_signer(peer, incarnation, signature) == operator:
                    found[operator] = signature
                elif signature:
                    log.warning("%s gave a signature that is not its operator's", peer_id_text(one)[-8:])

    async def _ask(self, one: PeerId, peer: PeerId, incarnation: int) -> bytes:
        question = encode(MarkDownQuestion(peer=peer, incarnation=incarnation))
        try:
            answer = decode(await self._mesh.request(one, MARK_DOWN, question, deadline_s=ASK_DEADLINE_S), MarkDownAnswer)
        except VeilError as error:
            log.info("%s does not say whether a node is dead: %s", peer_id_text(one)[-8:], error.message)
            return b""
        if answer.reason:
            log.info("%s does not hold %s dead: %s", peer_id_text(one)[-8:], peer_id_text(peer)[-8:], answer.reason)
        return answer.signature

    async def _sign(self, peer: PeerId, death: _Death, incarnation: int) -> bytes:
        """Once for each death, however often it is asked for: a signer may be another machine."""
        if death.signed is None or death.signed[0] != incarnation:
            death.signed = incarnation, await self._chain.sign_mark_down(peer, incarnation)
        return death.signed[1]

    async def _serve(self, sender: PeerId, payload: bytes) -> bytes:
        question = decode(payload, MarkDownQuestion)
        peer, members = PeerId(question.peer), self._look()
        if sender not in members or self._local.peer not in members:
            return encode(MarkDownAnswer(signature=b"", reason="NotMember"))
        if doubt := self._doubt(peer, members):
            return encode(MarkDownAnswer(signature=b"", reason=doubt))
        death = self._deaths[peer]
        incarnation = await self._incarnation(peer, death)
        if question.incarnation != incarnation or self._doubt(peer, self._look()):
            return encode(MarkDownAnswer(signature=b"", reason="OtherIncarnation"))
        return encode(MarkDownAnswer(signature=await self._sign(peer, death, incarnation), reason=""))

    # the way back

    async def _come_back(self, marked: int, members: dict[PeerId, NodeRow]) -> None:
        """With the incarnation that refuted the mark in the mesh; a lease later with the next one, if nobody there disputes it:
        the mark then was not the mesh's. Not while this node is cut off: it would be marked again."""
        now_s = self._local.now()
        if self._marked is None or self._marked[0] != marked:
            self._marked = (marked, now_s)
        own = next(member.incarnation for member in self._mesh.members() if member.peer == self._local.peer)
        waited = now_s - self._marked[1] >= self._local.settings.lease_s
        if self._is_cut_off(members) or not (own > marked or waited) or not self._returns.take(1, now_s):
            return
        self._marked = (marked, now_s)
        try:
            await self._chain.mark_up(self._local.peer, max(own, marked + 1))
            log.warning("this node was marked down at incarnation %d, and is back at %d", marked, max(own, marked + 1))
        except Conflict as error:
            log.info("this node's mark was not taken back: %s", error.message)
