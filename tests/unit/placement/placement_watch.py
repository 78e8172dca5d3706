"""The invariants of placement, counted on the messages and partial decryptions of a simulated cluster.

It knows nothing of how placement decides.
"""

from contextlib import suppress
from itertools import pairwise

from placement_doubles import (
    CIRCUITS,
    CLUSTER,
)
from placement_nodes import TALLY, Broken

from veil.errors import Untrusted
from veil.fhe.decision import order_of
from veil.placement import reasons
from veil.placement.effects import ROUND
from veil.placement.eligibility import anchored, eligible
from veil.placement.messages import open_any, open_passed
from veil.types import RoundId
from veil.wire.codec import encode, sha256
from veil.wire.rounds import Commit, Missing, Offer, Open, Passed, Telemetry, Withheld, transcript_root
from veil.wire.signed import open_signed

WATCHED = [kind.__struct_config__.tag.encode() for kind in (Telemetry, Commit, Missing)]


class Watch:
    """Looks at one :class:`placement_world.World`. Whatever may not be raises Broken."""

    def __init__(self, world):
        self.world = world
        self.released = {}
        """By member and round, what it released a partial of and for which quorums."""
        self.decided_in = {}
        """By member and namespace, the rounds that the member released."""
        self.decided = {}
        """By member and candidate, the rounds that the member released with that candidate in them."""
        self.true_orders = {}
        self.evaluated = {}
        """By round, the nodes that evaluated it."""
        self.offered = set()
        """By round, the nodes that an offer was made to."""
        self.delivered = {}
        """When a member got whose telemetry for which round, in which of its lives."""
        self.committed, self.searched = {}, {}
        """When a candidate's commitment came to a member itself, and when whose it was told to look for."""
        self.named = {}
        """When it said itself that it does not decide with that node."""
        self.offers = {}
        """How many offers were made that somebody had checked, and that nobody had."""
        self.vectors = {}
        """By member, over its crashes: whose telemetry, for which round, its releases were about."""

    def partial(self, node, result, members):
        """Called before every partial decryption: what is decrypted, and may it be?"""
        TALLY["partials"] += 1
        entry = next((e for e in node.core.member._requests.values() if e.result == result), None)
        if entry is None:
            raise Broken("a release of something that was not evaluated here")
        opened = entry.open
        if opened.circuit not in CIRCUITS:
            raise Broken(f"seed {self.world.seed}: a release for an unregistered circuit")
        purpose = (opened.object_id, opened.replicas, opened.circuit, sha256(result))
        known, quorums = self.released.setdefault((node.number, opened.round), (purpose, [set(members)]))
        if known != purpose:
            raise Broken(f"seed {self.world.seed}: a release for a spent round")
        if set(members) not in quorums:
            quorums.append(set(members))
        if len(quorums) > 2 or not all(a < b for a, b in pairwise(quorums)):
            raise Broken(f"seed {self.world.seed}: partials for a third quorum, or for one that is not the first enlarged")
        if opened.round not in node.journal.rounds.spent:
            raise Broken(f"seed {self.world.seed}: a release that is not in the journal")
        able = eligible(node.view, anchored(node.view, opened.object_id).envelope)
        if able - set(opened.candidates) - set(opened.excluded):
            raise Broken(f"seed {self.world.seed}: a release with an omitted candidate")
        self.exclusions(node, entry)
        self.silence(node, entry)
        space = self.decided_in.setdefault((node.number, opened.object_id[:16]), set())
        space.add(opened.round)
        if 0 < self.world.namespace_limit < len(space):
            raise Broken(f"seed {self.world.seed}: more decisions in one namespace than the registry allows")
        for peer in entry.commits:
            rounds = self.decided.setdefault((node.number, peer), set())
            rounds.add(opened.round)
            if len(rounds) > self.world.decisions_max:
                raise Broken(f"seed {self.world.seed}: more decisions with one candidate than allowed")
            vector = node.core.member._telemetry.get((peer, RoundId(opened.round)))
            seen = self.vectors.setdefault(node.number, {})
            first = seen.setdefault(sha256(vector or b""), (peer, opened.round))
            if vector is not None and first != (peer, opened.round):
                raise Broken(f"seed {self.world.seed}: a release on a copied ciphertext")

    def exclusions(self, node, entry):
        """A release over a round that leaves somebody out: no member takes for a reason what it has seen to be none."""
        for why in entry.exclusions:
            TALLY[f"left out as {why.reason}"] += 1
            if why.reason == reasons.GONE and not node.core.local.liveness.gone(why.peer):
                raise Broken(f"seed {self.world.seed}: a candidate is excluded as gone that the member sees alive")
            if why.reason == reasons.REFUSED and (why.round, why.peer) not in self.offered:
                raise Broken(f"seed {self.world.seed}: a candidate is excluded that refused no offer")
            of = (node.number, node.life, why.peer, why.round)
            here_s, said_s = self.delivered.get(of, float("inf")), self.named.get(of, self.world.now)
            if why.reason == reasons.TELEMETRY_MISSING and here_s < said_s:
                raise Broken(f"seed {self.world.seed}: a candidate is excluded as silent whose telemetry the member has")

    def silence(self, node, entry):
        """A release over inputs without some candidate's commitment: the member has looked for it too, and not found it."""
        round, enough_s = entry.open.round, self.world.settings.commit_s / 4
        at_s, searched = self.searched.get((node.number, node.life, round), (float("inf"), set()))
        for peer in set(entry.open.candidates) - set(entry.commits):
            TALLY["did not commit"] += 1
            if peer not in searched or self.world.now < at_s + enough_s:
                raise Broken(f"seed {self.world.seed}: a release without a candidate that nobody looked for")
            if self.committed.get((node.number, node.life, peer, round), float("inf")) <= at_s + enough_s:
                raise Broken(f"seed {self.world.seed}: a release without a candidate whose commitment the member has")

    def sent(self, node, effect):
        """Called for every message of ``node``: an offer goes to the node that the true decision names, whatever members say.

        Only an offer that says itself that nobody checked may be the work of a liar.
        """
        message, _ = (
            open_any(effect.message.signer, encode(effect.message), CLUSTER) if effect.protocol == ROUND else (None, None)
        )
        if isinstance(message, Withheld) and message.reason in reasons.SPOILT:
            for peer in message.peers:
                self.named.setdefault((node.number, node.life, peer, message.round), self.world.now)
        if not isinstance(message, Offer):
            return
        self.offered.add((opened_of(message.open).round, effect.peer))
        true = self.true_orders.get(message.transcript, [])
        self.offers[message.checked] = self.offers.get(message.checked, 0) + 1
        if message.checked and true[message.place : message.place + 1] != [effect.peer]:
            raise Broken(f"seed {self.world.seed}: a checked offer to a node that the decision does not name there")

    def truth(self, node, effect):
        """The true order of an evaluation's candidates: a fake result is in clear."""
        entry = node.core.member._requests.get(effect.round)
        if entry is None:
            return
        transcript = transcript_root(entry.request.open, entry.request.inputs, sha256(entry.result))
        spec = CIRCUITS.get(entry.open.circuit)
        if spec is not None:
            bits = entry.result[-spec.result_bits :]
            places = order_of(spec.shape, list(bits), len(entry.open.candidates))
            self.true_orders[transcript] = [entry.open.candidates[place] for place in places]

    def delivery(self, receiver, sender, payload):
        """What a member gets to see of candidates, whoever passes it on."""
        if not any(tag in payload for tag in WATCHED):
            return
        with suppress(Untrusted):
            message, signed = open_any(sender, payload, CLUSTER)
            if isinstance(message, Passed):
                message, signed = open_passed(message, CLUSTER), message.message
            of = (receiver.number, receiver.life, signed.signer)
            if isinstance(message, Telemetry):
                self.delivered.setdefault((*of, message.round), self.world.now)
            elif isinstance(message, Commit) and signed.signer == sender:
                self.committed.setdefault((*of, message.round), self.world.now)
            elif isinstance(message, Missing) and message.what == "commitments":
                searched = set(message.peers)
                self.searched.setdefault(
                    (receiver.number, receiver.life, opened_of(message.open).round), (self.world.now, searched)
                )


def opened_of(signed):
    return open_signed(signed, CLUSTER, Open)
