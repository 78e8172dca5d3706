"""All roles of one node in one place: coordinator, committee member, key holder, candidate, winner.

A node that is several of them at once talks to itself through the same messages. Everything here is synchronous and takes
its time from the clock it is given; what it wants done comes back as effects. So a whole cluster of these runs in a test
in virtual time, with every message lost, repeated or reordered at will.
"""

import logging
from collections.abc import Callable

from veil.errors import SignatureInvalid, WireInvalid
from veil.placement.append import key_of
from veil.placement.candidate import Candidate
from veil.placement.desk import Desk
from veil.placement.effects import PENDING, Effects, Gone, Show
from veil.placement.holdings import Holdings
from veil.placement.keys import KeyKeeper
from veil.placement.leases import LeaseTable
from veil.placement.local import Local
from veil.placement.member import Member
from veil.placement.messages import open_any, open_passed
from veil.placement.ports import CapacityPort, Journal, ReplicaKey, ReportPort
from veil.placement.reasons import STOPPED
from veil.placement.renewals import Renewals
from veil.types import Digest, Generation, ObjectId, PeerId, RoundId, Shard
from veil.wire import rounds
from veil.wire.codec import Message, decode
from veil.wire.rounds import Pending, Renew, RenewReply
from veil.wire.signed import Signed, open_signed

log = logging.getLogger(__name__)


class Core:
    """``receive``, ``look_again`` (time or the view has moved) and the ``on_…`` of finished effects."""

    def __init__(
        self,
        local: Local,
        journal: Journal,
        capacity: CapacityPort,
        reports: ReportPort,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.local = local
        self._reports = reports
        self.renewals = Renewals(local)
        self.holdings = Holdings(local, journal.bindings, capacity, self.renewals, changed)
        self.candidate = Candidate(local, capacity, self.holdings, journal.counters)
        self.keys = KeyKeeper(local)
        self.member = Member(local, journal.rounds, chosen=self.keys.chosen)
        self.leases = LeaseTable(local)
        self.desk = Desk(local, self.leases)

    # messages

    def receive(self, sender: PeerId, payload: bytes) -> Effects:
        """One message of a round. What is forged or malformed is dropped and logged."""
        try:
            message, signed = open_any(sender, payload, self.local.cluster)
            return self._shown(self._dispatch(sender, message, signed))
        except (SignatureInvalid, WireInvalid) as error:
            log.warning("a message of %s is dropped: %s", sender.hex()[:16], error)
            return []

    def _dispatch(self, sender: PeerId, message: Message, signed: Signed) -> Effects:
        match message:
            case rounds.Open():
                return self.candidate.on_open(sender, message, signed)
            case rounds.Commit():
                return self.desk.on_commit(sender, message, signed) + self.member.on_commit(sender, message, signed)
            case rounds.Missing():
                return self.member.on_missing(sender, message)
            case rounds.Passed():
                return self._on_passed(sender, message)
            case rounds.Inputs():
                return self.candidate.on_inputs(sender, message)
            case rounds.Telemetry():
                return self.member.on_telemetry(sender, message, signed)
            case rounds.ReleaseRequest():
                return self.member.on_release_request(sender, message)
            case rounds.Release():
                partial = open_signed(message.partial, self.local.cluster, rounds.Partial, by=sender)
                return self.desk.on_release(sender, message.partial, partial, message.result)
            case rounds.Withheld():
                return self.desk.on_withheld(sender, message, signed)
            case rounds.Offer():
                return self.candidate.on_offer(sender, message)
            case rounds.KeyRequest():
                return self.keys.on_key_request(sender, message)
            case rounds.KeyShare():
                return self.candidate.on_key_share(sender, message) + self.holdings.on_key_share(sender, message)
            case rounds.Accept():
                return self.desk.on_accept(sender, message)
            case rounds.Decline():
                return self.desk.on_decline(sender, message)
            case rounds.Bound():
                return self.holdings.on_bound(sender, message)
        raise WireInvalid(f"nobody takes a {type(message).__name__}")

    def _on_passed(self, by: PeerId, passed: rounds.Passed) -> Effects:
        message, signed = open_passed(passed, self.local.cluster), passed.message
        signer = PeerId(signed.signer)
        match message:
            case rounds.Open():
                return self.candidate.on_passed_open(by, message, signed)
            case rounds.Commit():
                return self.desk.on_commit(signer, message, signed)
            case rounds.Telemetry():
                return self.member.on_telemetry(signer, message, signed)

    def receive_renewal(self, sender: PeerId, payload: bytes) -> tuple[RenewReply, Effects]:
        """One Renew. Raises SignatureInvalid or WireInvalid."""
        renew = open_signed(decode(payload, Signed), self.local.cluster, Renew, by=sender)
        key = key_of(renew.bound.leaf)
        reply = self.desk.on_renew(sender, renew)
        lease = self.leases.get(key)
        if self.leases.is_retired(key):
            log.debug("a retired replica is still held")
        elif lease is not None and lease.peer == sender and lease.bound == renew.bound:
            self._reports.report(*key, renew.status, renew.bound)
        elif lease is None and renew.status.reason == STOPPED and self._may_be_gone(key):
            self._reports.gone(*key)
        return reply, self._shown(self.desk.tick())

    def _may_be_gone(self, key: ReplicaKey) -> bool:
        """A home node hears of an end from the winner; the coordinator decides by what is wanted."""
        return key not in self.desk.backlog

    def receive_pending(self, sender: PeerId, payload: bytes) -> None:
        """A coordinator's word on a replica that waits. Raises SignatureInvalid or WireInvalid."""
        pending = open_signed(decode(payload, Signed), self.local.cluster, Pending, by=sender)
        key = ReplicaKey(ObjectId(pending.object_id), Generation(pending.generation), pending.replica)
        if self.local.ranking.is_coordinator_of(sender, key.object_id) and self.leases.get(key) is None:
            self._reports.report(*key, pending.status, None)

    # time, the chain, and finished effects

    def look_again(self, *, view_changed: bool = False) -> Effects:
        """Time has passed, or the view has moved."""
        effects = self.member.look_again() + self.keys.tick() + self.candidate.tick()
        effects += self.holdings.look_again(view_changed=view_changed)
        return self._shown(effects + (self.desk.view_changed() if view_changed else self.desk.tick()))

    def on_content(self, wanted: Digest, content: bytes | None) -> Effects:
        """A Fetch has ended."""
        roles = (self.member, self.keys, self.candidate, self.holdings)
        return self._shown([effect for role in roles for effect in role.on_content(wanted, content)])

    def on_evaluated(self, round: RoundId, result: bytes | None) -> Effects:
        return self._shown(self.member.on_evaluated(round, result))

    def on_append(self, shard: Shard, sequence: int, outcome: str) -> Effects:
        return self._shown(self.desk.on_append(shard, sequence, outcome))

    def on_renew_reply(self, key: ReplicaKey, peer: PeerId, reply: RenewReply) -> Effects:
        return self._shown(self.holdings.on_renew_reply(key, peer, reply))

    def release(self, key: ReplicaKey) -> Effects:
        return self._shown(self.holdings.release(key))

    def _shown(self, effects: Effects) -> Effects:
        """Report here what is to be shown, and pass it on to the home nodes."""
        out: Effects = []
        for effect in effects:
            if isinstance(effect, Show):
                self._reports.report(*effect.key, effect.status, None)
                out += self._to_homes(effect)
            elif isinstance(effect, Gone):
                self._reports.gone(*effect.key)
            else:
                out.append(effect)
        return out

    def _to_homes(self, shown: Show) -> Effects:
        key, homes = shown.key, self.local.view.homes(shown.key.object_id)
        pending = Pending(object_id=key.object_id, generation=key.generation, replica=key.replica, status=shown.status)
        return [self.local.send(home, pending, protocol=PENDING) for home in homes if home != self.local.peer]
