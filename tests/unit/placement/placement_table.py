"""One round laid out on a table: four nodes, a committee of three, an opening, commits, telemetry, all signed for real."""

import random
from dataclasses import replace

from placement_doubles import (
    CLUSTER,
    FIRST_BLOCK,
    GIB,
    DiceRandom,
    Liveness,
    MemoryJournal,
    SimpleCapacity,
    StaticView,
    VirtualClock,
    Workload,
    evaluate_now,
    identity_of,
    key_epoch_of,
    parts_of,
)

from veil.fhe.ports import Figures
from veil.identity import Identity
from veil.placement.effects import Evaluate, Fetch, Send
from veil.placement.eligibility import beacon_order
from veil.placement.local import Local
from veil.placement.member import Member
from veil.placement.messages import open_any
from veil.placement.ranking import order, shard_of, term_of
from veil.placement.settings import DEV
from veil.types import RoundId
from veil.wire.codec import encode, sha256
from veil.wire.rounds import Commit, Exclusions, Inputs, Missing, Open, Partial, ReleaseRequest, Telemetry
from veil.wire.signed import open_signed, sign

NODE = Figures(cpu_milli=2000, memory_bytes=8 * GIB, disk_bytes=64 * GIB, gpu_count=0)
SMALL = Figures(cpu_milli=500, memory_bytes=GIB, disk_bytes=GIB, gpu_count=0)


def body_of(effect):
    """The message that a Send carries."""
    message, _ = open_any(effect.message.signer, encode(effect.message), CLUSTER)
    return message


class Table:
    """``nodes[i]`` is identity i; committee members are nodes 0, 1, 2 with threshold 2; node 3 only offers room."""

    def __init__(self, *, replicas=3, max_decryptions=100, confidential=False, signing=Identity):
        self.identities = [identity_of(number, signing) for number in range(4)]
        self.peers = [identity.peer_id for identity in self.identities]
        self.clock = VirtualClock()
        self.key_epoch = key_epoch_of(self.peers[:3], 2, max_decryptions=max_decryptions)
        self.workload = Workload("web", replicas, SMALL, self.peers[:3], 2, confidential=confidential)
        self.view = StaticView(self.peers, key_epoch=self.key_epoch)
        self.view.add(*self.workload.rows())
        self.shard = shard_of(self.workload.id)
        self.term = term_of(FIRST_BLOCK)
        ranks = order(self.shard, self.term, self.view.members, self.view.term_seed(self.term))
        self.ranks = [self.peers.index(peer) for peer in ranks]
        self.coordinator, self.last_rank = self.ranks[0], self.ranks[3]
        self.round = RoundId(b"round number one")
        self.telemetry = {}

    def local(self, number, **settings):
        return Local(
            identity=self.identities[number],
            cluster=CLUSTER,
            view=self.view,
            clock=self.clock,
            random=DiceRandom(random.Random(number)),
            liveness=Liveness(),
            settings=replace(DEV, **settings),
            epoch=parts_of(self.key_epoch, self.peers[number]),
        )

    def capacity(self):
        return SimpleCapacity(self.clock, NODE)

    def signed(self, number, message):
        return sign(self.identities[number], CLUSTER, message)

    def opened(self, **changes):
        row = self.view.object(2, self.workload.id)
        values = {
            "round": self.round,
            "shard": self.shard,
            "term": self.term,
            "object_id": self.workload.id,
            "generation": 1,
            "replicas": (0,),
            "epoch": 1,
            "circuit": f"default-{'rank' if len(changes.get('replicas', (0,))) > 1 else 'choose'}-4",
            "demand": self.workload.demand,
            "candidates": beacon_order(row.template_block_hash, changes.get("round", self.round), self.peers),
            "expires_s": int(self.clock.now_s()) + 45,
        }
        return Open(**(values | changes))

    def make_telemetry(self, number, round=None):
        parts = parts_of(self.key_epoch, self.peers[number])
        vector = parts.encryptor.telemetry(NODE, None)
        self.telemetry[number] = Telemetry(round=round or self.round, epoch=1, vector=vector)
        return self.telemetry[number]

    def request(self, *, opened=None, by=None, committed=None, members=(1, 2), evaluation=b"", exclusions=(), **changes):
        """A release request by the coordinator, with fresh telemetry of everybody unless told otherwise."""
        by = self.coordinator if by is None else by
        opened = opened or self.opened(**changes)
        signed_open = self.signed(by, opened)
        commits = []
        for peer in opened.candidates:
            number = self.peers.index(peer)
            if committed is not None and number not in committed:
                continue
            telemetry = self.telemetry.get(number) or self.make_telemetry(number, opened.round)
            commits.append(self.signed(number, Commit(round=opened.round, telemetry=sha256(telemetry.vector))))
        inputs = self.signed(by, Inputs(round=opened.round, commits=tuple(commits)))
        why = self.signed(by, Exclusions(round=opened.round, exclusions=exclusions))
        return ReleaseRequest(open=signed_open, inputs=inputs, exclusions=why, evaluation=evaluation, members=members)

    def blob(self, digest):
        return self.workload.blobs[digest]


class Asked:
    """One committee member that is asked, with its effects carried out at once."""

    def __init__(self, table, number=0, *, journal=None, checks=None):
        self.table, self.number = table, number
        self.local = table.local(number)
        self.journal = journal or MemoryJournal()
        self.member = Member(self.local, self.journal.rounds, **({"checks": checks} if checks is not None else {}))
        self.evaluations = 0

    def give_telemetry(self, numbers=(0, 1, 2, 3)):
        """What it answers to the last one."""
        answer = None
        for number in numbers:
            if number in self.table.telemetry:
                telemetry = self.table.telemetry[number]
                signed = self.table.signed(number, telemetry)
                answer = self.carry_out(self.member.on_telemetry(self.table.peers[number], telemetry, signed))
        return answer

    def look_for(self, request, *numbers):
        """The coordinator has it look for the commitments of those nodes, and waits as long as it does."""
        missing = Missing(open=request.open, what="commitments", peers=tuple(self.table.peers[number] for number in numbers))
        self.passed = self.member.on_missing(request.open.signer, missing)
        self.table.clock.time += self.local.settings.commit_s / 2

    def ask(self, request, sender=None):
        """The member's last answer: a Release, a Withheld, or None."""
        peer = self.table.peers[self.table.coordinator if sender is None else sender]
        return self.carry_out(self.member.on_release_request(peer, request))

    def carry_out(self, effects):
        answer = None
        for effect in effects:
            match effect:
                case Fetch():
                    more = self.member.on_content(effect.digest, self.table.workload.blobs.get(effect.digest))
                case Evaluate():
                    self.evaluations += 1
                    made = evaluate_now(
                        self.local.parts_of(effect.epoch).evaluator, effect.circuit, effect.demand, effect.telemetry
                    )
                    more = self.member.on_evaluated(effect.round, made.result)
                case Send():
                    answer, more = body_of(effect), []
            answer = self.carry_out(more) or answer
        return answer

    def wait(self, seconds):
        self.table.clock.time += seconds
        return self.carry_out(self.member.look_again())

    def partial(self, release):
        return open_signed(release.partial, CLUSTER, Partial)
