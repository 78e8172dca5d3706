"""A committee member as holder of content key shares: it lets a sealed part be opened by the node that a round chose.

It asks nobody whom the round chose: it combines the partials itself. Each of them is signed by a committee member that
checked the round, and names the transcript of exactly this opening and these inputs, so that a coordinator cannot show the
decision of one workload's round to get at another's resources.
"""

import logging
from collections import OrderedDict
from dataclasses import dataclass

from veil.errors import CiphertextInvalid, FheUnavailable, SignatureInvalid, Untrusted, WireInvalid
from veil.placement.append import leaf_is_appended
from veil.placement.checks import read_commits, read_round
from veil.placement.effects import Effects, Fetch
from veil.placement.eligibility import anchored_in
from veil.placement.local import Local
from veil.placement.offering import shown_max
from veil.placement.outcome import candidates_in_order
from veil.placement.ports import EpochParts
from veil.placement.ranking import shard_of
from veil.placement.settings import ROUNDS_HELD_MAX
from veil.types import Digest, ObjectId, PeerId, RoundId, Shard, Term
from veil.wire.codec import decode, sha256
from veil.wire.objects import SealedPart
from veil.wire.rounds import KeyRequest, KeyShare, Open, Partial, transcript_root
from veil.wire.signed import open_signed

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Granted:
    """A request that was checked and waits for its sealed part."""

    opened: Open
    winner: PeerId
    piece: str
    until_s: float


class KeyKeeper:
    """Answers KeyRequests. A refused one is not answered: the winner's and the coordinator's time limits end the wait."""

    def __init__(self, local: Local) -> None:
        self.local = local
        self._waiting: OrderedDict[tuple[Digest, PeerId, RoundId], _Granted] = OrderedDict()
        self._parts: OrderedDict[Digest, bytes] = OrderedDict()
        self._chosen: OrderedDict[RoundId, set[PeerId]] = OrderedDict()

    def on_key_request(self, sender: PeerId, request: KeyRequest) -> Effects:
        try:
            opened, found = self._check(sender, request)
        except (SignatureInvalid, WireInvalid, CiphertextInvalid, FheUnavailable, Untrusted) as error:
            log.warning("no key share for a request of %s: %s", sender.hex()[:16], error.message)
            return []
        wanted = Digest(found)
        until = self.local.now() + self.local.settings.offer_s
        winner = PeerId(request.winner)
        self._waiting[wanted, winner, RoundId(opened.round)] = _Granted(opened, winner, request.piece, until)
        while len(self._waiting) > ROUNDS_HELD_MAX:
            self._waiting.popitem(last=False)
        if wanted in self._parts:
            return self.on_content(wanted, self._parts[wanted])
        return [Fetch(wanted)]

    def chosen(self, round: RoundId) -> frozenset[PeerId]:
        """Whom this member was asked to give keys to, of the nodes that ``round`` decided for."""
        return frozenset(self._chosen.get(round, ()))

    def tick(self) -> Effects:
        """Ask again for parts that did not come; forget requests that are over."""
        now = self.local.now()
        for key in [key for key, granted in self._waiting.items() if now > granted.until_s]:
            del self._waiting[key]
        return [Fetch(wanted) for wanted, _, _ in self._waiting]

    def on_content(self, wanted: Digest, content: bytes | None) -> Effects:
        """The sealed part that a granted request waits for."""
        keys = [key for key in self._waiting if key[0] == wanted]
        if content is None or not keys:
            return []
        self._parts[wanted] = content
        while len(self._parts) > ROUNDS_HELD_MAX:
            self._parts.popitem(last=False)
        effects: Effects = []
        for key in keys:
            effects += self._give(wanted, content, self._waiting.pop(key))
        return effects

    def _give(self, wanted: Digest, content: bytes, granted: _Granted) -> Effects:
        parts = self.local.parts_of(granted.opened.epoch)
        if parts is None or self.local.now() > granted.until_s:
            return []
        try:
            part = decode(content, SealedPart)
            index = list(parts.key_epoch.committee).index(self.local.peer)
            sound = (part.object_id, part.epoch, part.piece) == (granted.opened.object_id, granted.opened.epoch, granted.piece)
            if not sound:
                raise Untrusted("the sealed part is of another object, epoch or piece")
            share = self.local.identity.open(part.shares[index])
        except (Untrusted, ValueError, IndexError) as error:
            log.warning("no key share of part %s: %s", wanted.hex()[:8], error)
            return []
        reply = KeyShare(round=granted.opened.round, piece=part.piece, part=wanted, member=index + 1, share=share)
        return [self.local.send(granted.winner, reply)]

    # what must hold

    def _check(self, sender: PeerId, request: KeyRequest) -> tuple[Open, bytes]:
        """The opening, and the digest of the part whose key is asked for. Raises Untrusted with the reason."""
        opened, inputs = read_round(self.local, request.open, request.inputs)
        read_commits(self.local, opened, inputs)
        parts = self.local.parts_of(opened.epoch)
        if parts is None or self.local.peer not in parts.key_epoch.committee:
            raise Untrusted("this node is not of the round's committee")
        shard = Shard(opened.shard)
        ranked = self.local.ranking.may_coordinate(sender, shard, Term(opened.term))
        if sender != request.open.signer or not ranked or shard != shard_of(ObjectId(opened.object_id)):
            raise Untrusted("not by a coordinator of the shard")
        if request.piece == "resources" and self.local.wall_s() > opened.expires_s:
            raise Untrusted("the round is over")
        self._check_choice(parts, opened, request)
        return opened, self._part_of(opened, request)

    def _check_choice(self, parts: EpochParts, opened: Open, request: KeyRequest) -> None:
        evaluation = sha256(request.result)
        transcript = transcript_root(request.open, request.inputs, evaluation)
        committee = parts.key_epoch.committee
        shares: dict[int, bytes] = {}
        members: tuple[int, ...] = ()
        for signed in request.partials:
            partial = open_signed(signed, self.local.cluster, Partial)
            members = members or partial.members
            named = (partial.round, partial.evaluation, partial.transcript, partial.members)
            if named != (opened.round, evaluation, transcript, members):
                raise Untrusted("a partial of another round, transcript or set")
            if partial.member > len(committee) or committee[partial.member - 1] != signed.signer:
                raise Untrusted("a partial that its member did not sign")
            shares[partial.member] = partial.partial
        if not set(shares) <= set(members) or len(shares) < parts.key_epoch.threshold:
            raise Untrusted("not the partials of threshold members of one quorum")
        decided = parts.combiner.open(request.result, members, shares)
        order = candidates_in_order(parts.key_epoch, opened, decided.bits)[: shown_max(len(opened.replicas))]
        if request.place >= len(order) or order[request.place] != request.winner:
            raise Untrusted("the decision does not name that node at that place")
        self._chosen.setdefault(RoundId(opened.round), set()).add(PeerId(request.winner))
        while len(self._chosen) > ROUNDS_HELD_MAX:
            self._chosen.popitem(last=False)

    def _part_of(self, opened: Open, request: KeyRequest) -> bytes:
        found = anchored_in(self.local.view, ObjectId(opened.object_id), opened.epoch)
        if found is None or found.generation != opened.generation:
            raise Untrusted("the chain's generation is another one")
        if request.piece == "resources":
            wanted = found.envelope.resources
        else:
            wanted = found.envelope.template
            bound = request.bound
            leaf = bound.leaf if bound else None
            if bound is None or leaf is None or not leaf_is_appended(self.local, bound, final=True):
                raise Untrusted("the leaf is not appended, or not deep enough")
            named = (leaf.peer, leaf.object_id, leaf.generation, leaf.round)
            expected = (request.winner, opened.object_id, opened.generation, opened.round)
            if named != expected or leaf.replica not in opened.replicas:
                raise Untrusted("the leaf is another one")
        if not wanted:
            raise Untrusted("the workload has no such part")
        return wanted
