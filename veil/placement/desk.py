"""The coordinator's desk: all replicas that this node is to place, their rounds, appends and leases.

Nothing here is durable. Whatever it knows it can learn again: from the log, from one lease of listening, from the Instance
objects. What keeps two nodes from placing one replica twice is not this file but the log's fence; this file only sees to it
that what it appends was decided on what it knew as of the sequence before.
"""

import logging

from veil.placement import reasons
from veil.placement.acting import Acting
from veil.placement.append import Appended, ShardAppends, Waiting, key_of
from veil.placement.backlog import Backlog, Entry
from veil.placement.coordinator import Round
from veil.placement.effects import Append, Effects, Gone, KeepLeaf, Show
from veil.placement.eligibility import Anchored, anchored, anchored_demand, candidates_of, choose_circuit, eligible
from veil.placement.leases import LeaseTable
from veil.placement.local import Local
from veil.placement.outcome import Accepted, key_request
from veil.placement.policies import manner_of
from veil.placement.ports import EpochParts, ReplicaKey, Wanted
from veil.placement.ranking import shard_of
from veil.placement.settings import DISPUTES_MAX, ROUNDS_AT_ONCE
from veil.types import ObjectId, PeerId, RoundId, Shard
from veil.wire.objects import DemandEnvelope
from veil.wire.rounds import (
    CANDIDATES_MAX,
    REPLICAS_PER_ROUND_MAX,
    Accept,
    Bound,
    Commit,
    Decline,
    Exclusion,
    InstanceStatus,
    Open,
    Partial,
    Renew,
    RenewReply,
    Withheld,
)
from veil.wire.signed import Signed

log = logging.getLogger(__name__)

_CONDITIONS = {
    reason: reason
    for reason in (
        reasons.NO_NODE_FITS,
        reasons.NO_CANDIDATES,
        reasons.FHE_UNAVAILABLE,
        reasons.QUORUM_MISSING,
        reasons.BUDGET_EXHAUSTED,
        reasons.NAMESPACE_LIMIT,
        reasons.CAPACITY_SHORT,
        reasons.KEY_UNAVAILABLE,
        reasons.DECRYPTION_DISPUTED,
        reasons.POLICY_UNREADABLE,
    )
} | {
    reasons.EVALUATION_DIFFERS: reasons.FHE_UNAVAILABLE,
    reasons.EPOCH_DIFFERS: reasons.EPOCH_MISSING,
    reasons.EPOCH_MISSING: reasons.EPOCH_MISSING,
    reasons.DEMAND_NOT_ANCHORED: reasons.DEMAND_NOT_IN_EPOCH,
}
"""How a round's end is told to people; all others come down to a quorum that did not come about."""


class Desk:
    """One node's coordination of all its shards."""

    def __init__(self, local: Local, leases: LeaseTable) -> None:
        self.local = local
        self.leases = leases
        self.acting = Acting(local)
        self.backlog = Backlog(local)
        self._rounds: dict[RoundId, Round] = {}
        self._appends: dict[Shard, ShardAppends] = {}
        self._proofs: dict[ReplicaKey, Accepted] = {}
        self._bound_due_s = 0.0
        self._silent: frozenset[int] = frozenset()
        self._liars: set[tuple[int, int]] = set()
        """Epoch and index of committee members whose partials were shown to be wrong."""
        self._shown: dict[ReplicaKey, InstanceStatus] = {}

    # what is told

    def set_wanted(self, wanted: list[Wanted]) -> None:
        """All replicas with an Instance object here. One that is no longer among them, of a shard coordinated here, retires."""
        for key in self.backlog.set_wanted(wanted):
            self._shown.pop(key, None)
            self._forget(key)
            if self.acting.is_acting(shard_of(key.object_id)):
                self.leases.retire(key)
        for one in wanted:
            self.leases.want(one.key)

    def view_changed(self) -> Effects:
        """The chain has moved."""
        for shard in self.acting.view_changed():
            log.info("another node appended in shard %d: listening before anything is placed again", shard)
            self._stale(shard)
        effects: Effects = []
        for shard, appends in self._appends.items():
            effects += self._landed(shard, appends.settle())
        for entry in self.backlog.entries():
            if entry.setting is not None:
                self.backlog.reconsider(entry, self._setting(entry.wanted.key))
        return effects + self.tick()

    def tick(self) -> Effects:
        """Time has passed."""
        self.acting.tick()
        effects: Effects = []
        for key in self.leases.expired():
            effects += self._show(key, reasons.NODE_LOST, "the node that held it is not heard any more")
        for round in list(self._rounds.values()):
            effects += round.tick() + self._after(round)
        for shard, appends in self._appends.items():
            if (sequence := appends.give_up()) is not None:
                self.acting.own.pop((shard, sequence), None)
            effects += self._next(shard)
        return effects + self._tell_winners() + self._tell_gone() + self._open_rounds()

    # what is heard

    def on_commit(self, signer: PeerId, commit: Commit, signed: Signed) -> Effects:
        round = self._rounds.get(RoundId(commit.round))
        return round.on_commit(signer, commit, signed) + self._after(round) if round else []

    def on_release(self, signer: PeerId, signed: Signed, partial: Partial, result: bytes) -> Effects:
        round = self._rounds.get(RoundId(partial.round))
        return round.on_release(signer, signed, partial, result) + self._after(round) if round else []

    def on_withheld(self, signer: PeerId, withheld: Withheld, signed: Signed) -> Effects:
        round = self._rounds.get(RoundId(withheld.round))
        return round.on_withheld(signer, withheld, signed) + self._after(round) if round else []

    def on_accept(self, signer: PeerId, accept: Accept) -> Effects:
        round = self._rounds.get(RoundId(accept.round))
        return round.on_accept(signer, accept) + self._after(round) if round else []

    def on_decline(self, signer: PeerId, decline: Decline) -> Effects:
        """Of an offer; or, after the append, of the binding itself."""
        round = self._rounds.get(RoundId(decline.round))
        if round:
            return round.on_decline(signer, decline) + self._after(round)
        for key in self.leases.refused(signer, decline) if decline.reason == reasons.RELEASED else ():
            log.info("a winner no longer holds its reservation: its replica is placed again")
            self._proofs.pop(key, None)
        return []

    def on_renew(self, sender: PeerId, renew: Renew) -> RenewReply:
        """Somebody holds a replica: a round for it ends, and its leaf is taken back unless it has departed already. One that
        its holder wants to be rid of is placed as one that nobody holds, and handed over (:mod:`veil.placement.leases`)."""
        key = key_of(renew.bound.leaf)
        shard = shard_of(key.object_id)
        acting, appends = self.acting.is_acting(shard), self._appends.get(shard)
        if appends is not None and appends.supersedes(renew.bound):
            return RenewReply(keep=False, reason=reasons.SUPERSEDED)
        if self.leases.heard(sender, renew) and acting:
            self._forget(key, moving=renew.moving)
            self._shown.pop(key, None)
            if renew.status.reason != reasons.WAITING_FOR_KEY:
                self._proofs.pop(key, None)
            if not renew.moving:
                self.backlog.settled(key)
        return self.leases.reply(renew, acting=acting, informed=self.acting.may_place(shard, 0))

    def on_append(self, shard: Shard, sequence: int, outcome: str) -> Effects:
        """What the chain said: ``appended``, ``conflict`` or ``unknown``."""
        appends = self._appends.get(shard)
        return self._landed(shard, appends.on_answer(sequence, outcome)) if appends else []

    # rounds

    def _open_rounds(self) -> Effects:
        effects: Effects = []
        for group in self.backlog.due():
            if len(self._rounds) >= ROUNDS_AT_ONCE:
                break
            effects += self._try(group)
        return effects

    def _try(self, group: list[Entry]) -> Effects:
        """One round for all of ``group``, which are replicas of one workload."""
        object_id, generation, _ = group[0].wanted.key
        shard = shard_of(object_id)
        found = anchored(self.local.view, object_id)
        if not self.acting.is_acting(shard) or found is None or found.generation != generation:
            return []
        if any(round.open.object_id == object_id for round in self._rounds.values()):
            return []
        if self._gathers(group, found):
            return []
        group = [entry for entry in group if self._may_place(entry.wanted.key) and entry.wanted.replica < found.envelope.replicas]
        group = sorted(group, key=lambda entry: entry.wanted.replica)
        group = [entry for entry in group if self._is_held(entry) == self._is_held(group[0])][:REPLICAS_PER_ROUND_MAX]
        if not group:
            return []
        if not self.acting.may_place(shard, found.block):
            return self._show_all(group, reasons.LISTENING, "waiting for a lease, in case another node holds it")
        parts = self.local.epoch
        if parts is None:
            return self._postpone(group, reasons.EPOCH_MISSING, "the cluster has no key epoch that this node can use")
        demand = anchored_demand(self.local.view, object_id, parts.key_epoch.epoch)
        if demand is None or demand.resources != found.envelope.resources:
            return self._postpone(group, reasons.DEMAND_NOT_IN_EPOCH, "its demand is not encrypted for the present key epoch")
        return self._open(group, parts, found, demand)

    def _gathers(self, group: list[Entry], found: Anchored) -> bool:
        """Whether replicas of the workload may still be on their way here, so that one round can place them with these."""
        known = self.backlog.count(found.object_id, found.generation)
        newest_s = max(entry.since_s for entry in group)
        return known < found.envelope.replicas and self.local.now() < newest_s + self.local.settings.gather_s

    def _open(self, group: list[Entry], parts: EpochParts, found: Anchored, demand: DemandEnvelope) -> Effects:
        key, view, profile = group[0].wanted.key, self.local.view, self.local.view.profile()
        members = self._members(parts)
        if profile is None:
            return self._postpone(group, reasons.POLICY_UNREADABLE, "this node cannot read the cluster's policy")
        if len(members) < parts.key_epoch.threshold:
            return self._postpone(group, reasons.QUORUM_MISSING, "too few key holders are alive")
        able = eligible(view, found.envelope)
        if not able:
            return self._postpone(group, reasons.NO_CANDIDATES, "no Active node matches what its placement asks for")
        exclusions = self._exclusions(group[0], able)
        asked = able - {PeerId(exclusion.peer) for exclusion in exclusions}
        held = self._is_held(group[0])
        circuit = choose_circuit(parts.key_epoch, profile, candidates=len(asked), replicas=len(group))
        if circuit is None:
            return self._postpone(group, reasons.EPOCH_MISSING, "the key epoch has no circuit of the cluster's profile")
        manner = manner_of(found.envelope)
        if circuit.shape == "choose" and manner.spread:
            group = group[:1]
        round = RoundId(self.local.random.bytes(16))
        candidates = candidates_of(found.seed, round, asked, circuit)
        if not candidates:
            return self._postpone(group, reasons.NO_NODE_FITS, "no eligible node is left to ask")
        opened = Open(
            round=round,
            shard=shard_of(key.object_id),
            term=self.local.ranking.term(),
            object_id=key.object_id,
            generation=key.generation,
            replicas=tuple(entry.wanted.replica for entry in group),
            epoch=parts.key_epoch.epoch,
            circuit=circuit.name,
            demand=demand.demand,
            candidates=candidates,
            expires_s=self.local.wall_s() + int(self.local.settings.round_s),
            excluded=tuple(exclusion.peer for exclusion in exclusions),
            optimistic=group[0].optimistic,
        )
        base = self.acting.news(shard_of(key.object_id))
        self._rounds[round] = Round(
            self.local, parts, opened, base=base, members=members, manner=manner, exclusions=exclusions, held=held
        )
        return [*self._show_all(group, reasons.PLACING, "a round is open"), *self._rounds[round].start()]

    def _exclusions(self, entry: Entry, able: set[PeerId]) -> list[Exclusion]:
        """Whom the next round leaves out, and why."""
        gone = {peer for peer in able - entry.insisted if self.local.liveness.gone(peer) and peer != self.local.peer}
        out = {peer: Exclusion(peer=peer, reason=reasons.GONE) for peer in gone}
        out |= {peer: why for peer, why in entry.left_out.items() if peer in able}
        return [out[peer] for peer in sorted(out)][:CANDIDATES_MAX]

    def _members(self, parts: EpochParts) -> list[int]:
        """Key holders that are not gone, in the order in which they are asked: this node, the prompt ones, the others."""
        epoch = parts.key_epoch.epoch
        committee = [PeerId(peer) for peer in parts.key_epoch.committee]
        alive = [
            index
            for index, peer in enumerate(committee, start=1)
            if (parts.decryptor is not None if peer == self.local.peer else not self.local.liveness.gone(peer))
        ]
        return sorted(
            alive,
            key=lambda index: ((epoch, index) in self._liars, index in self._silent, committee[index - 1] != self.local.peer),
        )

    def _after(self, round: Round) -> Effects:
        """Take over what nodes have accepted; and the end of the round, when it is over."""
        effects: Effects = []
        appends = self._shard(round.shard)
        for accepted in round.accepted():
            key = key_of(accepted.leaf)
            lease = self.leases.get(key)
            free = lease is None or (round.held and lease.moving)
            if self.backlog.get(key) is not None and free and key not in appends:
                appends.add(Waiting(accepted, round.base, round.held))
                effects += self._show(key, reasons.APPENDING, "a node has accepted it")
        effects += self._next(round.shard)
        if round.over and self._rounds.pop(round.id, None) is not None:
            self._silent = frozenset(round.silent)
            self._liars |= {(round.open.epoch, member) for member in round.liars}
            effects += self._left(round)
        return effects

    def _left(self, round: Round) -> Effects:
        """What becomes of the replicas that a round which is over has not placed."""
        failed = round.failed
        group = [entry for key in round.keys if self._may_place(key) and (entry := self.backlog.get(key)) is not None]
        if failed is None or not group:
            return []
        log.info("round %s: %s", round.name, failed.reason)
        if failed.reason == reasons.NO_NODE_FITS and not round.open.optimistic:
            for entry in group:
                self.backlog.soon(entry, optimistic=True)
            return []
        if failed.disputed and group[0].disputes < DISPUTES_MAX:
            for entry in group:
                self.backlog.insist(entry, failed.disputed)
            return []
        if all({exclusion.peer for exclusion in failed.without} - set(entry.left_out) for entry in group):
            for entry in group:
                self.backlog.soon(entry, without=failed.without, spent=failed.reason == reasons.BUDGET_EXHAUSTED)
            return []
        return self._postpone(group, _CONDITIONS.get(failed.reason, reasons.QUORUM_MISSING), failed.message)

    def _is_free(self, key: ReplicaKey) -> bool:
        """Nobody holds it, and nothing is under way for it."""
        return self.leases.get(key) is None and self._may_place(key)

    def _may_place(self, key: ReplicaKey) -> bool:
        """Nobody holds it who wants to keep it, and nothing is under way for it."""
        lease, appends = self.leases.get(key), self._appends.get(shard_of(key.object_id))
        under_way = any(key in round.keys for round in self._rounds.values()) or (appends is not None and key in appends)
        return (lease is None or lease.moving) and not under_way

    def _is_held(self, entry: Entry) -> bool:
        return self.leases.get(entry.wanted.key) is not None

    def _forget(self, key: ReplicaKey, *, moving: bool = False) -> None:
        """Take it out of rounds, and its leaf back if it is not under way. ``moving``: not out of what is to follow a holder."""
        for round in [round for round in self._rounds.values() if key in round.keys and not (moving and round.held)]:
            round.withdraw(key)
            if round.over:
                self._rounds.pop(round.id, None)
        if appends := self._appends.get(shard_of(key.object_id)):
            appends.take_back(key, but_held=moving)

    def _stale(self, shard: Shard) -> None:
        """Another appended: rounds opened before that are void."""
        news = self.acting.news(shard)
        self._shard(shard).news = news
        for round in [round for round in self._rounds.values() if round.shard == shard and round.base != news]:
            del self._rounds[round.id]

    # appends

    def _shard(self, shard: Shard) -> ShardAppends:
        return self._appends.setdefault(shard, ShardAppends(self.local, shard, self.acting.news(shard)))

    def _next(self, shard: Shard) -> Effects:
        if not self.acting.is_acting(shard):
            return []
        effects = self._shard(shard).next(self.acting.last_sequence(shard))
        for effect in effects:
            if isinstance(effect, Append):
                self.acting.own[shard, effect.sequence] = effect.root
        return effects

    def _landed(self, shard: Shard, appended: Appended | None) -> Effects:
        """Tell the winners, and begin the next append."""
        if appended is None:
            return []
        effects: Effects = []
        for bound, accepted in zip(appended.bounds, appended.accepted, strict=True):
            key = key_of(bound.leaf)
            log.info("round %s appended", bound.leaf.round.hex()[:8])
            self.leases.appended(bound)
            self._proofs[key] = accepted
            self.backlog.settled(key)
            effects += [KeepLeaf(bound), *self._tell(bound, accepted)]
        return effects + self._next(shard)

    def _tell(self, bound: Bound, accepted: Accepted | None) -> Effects:
        """The proof to the winner; for a confidential workload also its template's key."""
        winner = PeerId(bound.leaf.peer)
        effects: Effects = [self.local.send(winner, bound)]
        found = anchored(self.local.view, ObjectId(bound.leaf.object_id))
        parts = self.local.parts_of(bound.leaf.epoch)
        if found is None or not found.envelope.template or accepted is None or parts is None:
            return effects
        request = key_request(accepted.proof, winner, "template", bound)
        committee = parts.key_epoch.committee
        return effects + [self.local.send(PeerId(committee[member - 1]), request) for member in accepted.proof.members]

    def _tell_winners(self) -> Effects:
        """Again, to those that were not heard since the append or still wait for a key."""
        now = self.local.now()
        if now < self._bound_due_s:
            return []
        self._bound_due_s = now + self.local.settings.bound_retry_s
        effects: Effects = []
        for key, lease in self.leases.all().items():
            waits = lease.status.reason == reasons.WAITING_FOR_KEY and key in self._proofs
            if (waits or not lease.renewed) and self.acting.is_acting(shard_of(key.object_id)):
                effects += self._tell(lease.bound, self._proofs.get(key))
        return effects

    # what is shown

    def _tell_gone(self) -> Effects:
        """Retired replicas that nobody holds, as far as one lease of listening can tell."""
        effects: Effects = []
        for key in self.leases.retiring():
            if self._is_free(key) and self.acting.may_place(shard_of(key.object_id), 0):
                self.leases.has_gone(key)
                effects.append(Gone(key))
        return effects

    def _postpone(self, group: list[Entry], reason: str, message: str) -> Effects:
        if reason == reasons.NO_NODE_FITS and group[0].spent:
            reason, message = (
                reasons.BUDGET_EXHAUSTED,
                "no other node has room, and the epoch allows no more decisions about these",
            )
        for entry in group:
            self.backlog.later(entry, self._setting(entry.wanted.key))
        return self._show_all(group, reason, message)

    def _setting(self, key: ReplicaKey) -> tuple[object, ...]:
        """What the outcome of an attempt depends on, beside capacities: when it changes, trying again makes sense."""
        parts, found = self.local.epoch, anchored(self.local.view, key.object_id)
        demand = anchored_demand(self.local.view, key.object_id, parts.key_epoch.epoch) if parts else None
        able = frozenset(eligible(self.local.view, found.envelope)) if found else frozenset()
        return parts.key_epoch.epoch if parts else 0, demand, able, self.local.view.decision_limit(key.object_id)

    def _show_all(self, group: list[Entry], reason: str, message: str) -> Effects:
        return [effect for entry in group for effect in self._show(entry.wanted.key, reason, message)]

    def _show(self, key: ReplicaKey, reason: str, message: str) -> Effects:
        """Told when it changes. An outcome stays shown while the next attempt runs. Of what runs and is to move it is told
        to its holder alone."""
        before, lease = self._shown.get(key), self.leases.get(key)
        busy = reason in (reasons.PLACING, reasons.APPENDING)
        if lease is not None:
            lease.hindrance = lease.hindrance if busy and lease.hindrance in _CONDITIONS.values() else reason
            return []
        if before is not None and (before.reason == reason or (busy and before.reason in _CONDITIONS.values())):
            return []
        status = InstanceStatus(phase="Pending", reason=reason, message=message[:200], observed_s=self.local.wall_s())
        self._shown[key] = status
        return [Show(key, status)]
