"""The service over a fake mesh and a fake chain, in virtual time."""

import asyncio

import pytest
from placement_cluster import Cluster
from placement_doubles import GIB

from veil.errors import StorageUnavailable
from veil.fhe.ports import Figures
from veil.mesh.faults import Drop
from veil.mesh.ports import PeerState
from veil.placement.ranking import shard_of
from veil.store.transcripts import Transcripts
from veil.types import RoundId
from veil.wire.codec import decode, sha256
from veil.wire.merkle import leaf_hash
from veil.wire.objects import Body, object_id
from veil.wire.rounds import Bound, InstanceStatus, transcript_root

pytestmark = pytest.mark.looptime


@pytest.fixture
def cluster(tmp_path):
    """Entered inside the test: a fixture of its own would not live in virtual time."""
    return Cluster(tmp_path)


class Trap(Drop):
    """Loses everything of the round from the first message of a kind on that the victim sends or is sent."""

    def __init__(self, tag, victim, seen):
        super().__init__(protocol="round/1")
        self.tag, self.victim, self.seen = tag, victim, seen

    def meets(self, passage):
        if self.tag in passage.payload and self.victim in (passage.sender, passage.receiver):
            self.seen.set()
        return self.seen.is_set() and super().meets(passage)


def log_rows(cluster, workload):
    return cluster.members[0].projection.log(shard_of(workload.id))


async def test_every_replica_is_bound_once_and_its_leaf_is_on_the_chain(cluster):
    async with cluster:
        workload = await cluster.apply("web", 3)
        began = asyncio.get_running_loop().time()
        await cluster.all_bound(workload)
        assert asyncio.get_running_loop().time() - began < 3.0
        assert sum(row.count for row in log_rows(cluster, workload)) == 3
        binding = next(b for m in cluster.members for b in m.service.bindings())
        assert decode(binding.template, Body).spec["template"]["containers"][0]["name"] == "main"


async def test_a_round_leaves_transcripts_and_its_leaf_where_they_belong(cluster):
    async with cluster:
        workload = await cluster.apply("web", 1)
        await cluster.all_bound(workload)
        (binding,) = [b for m in cluster.members for b in m.service.bindings() if b.state == "bound"]
        bound = decode(binding.bound, Bound)
        round, leaf = RoundId(bound.leaf.round), leaf_hash(bound.leaf)
        (coordinator,) = [m for m in cluster.members if m.transcripts.find_leaf(leaf) == bound]
        kept = coordinator.transcripts.find(round, "coordinator")
        evaluated = [found for m in cluster.members if (found := m.transcripts.find(round, "member")) is not None]
        assert len(evaluated) >= cluster.key_epoch.threshold
        for transcript in evaluated:
            assert (transcript.open, transcript.inputs, transcript.evaluation) == (kept.open, kept.inputs, kept.evaluation)
            assert transcript.partials[0] in kept.partials
            assert (len(transcript.telemetry) > 0, transcript.result) == (True, b"")
        assert (kept.telemetry, sha256(kept.result)) == ((), kept.evaluation)
        assert transcript_root(kept.open, kept.inputs, kept.evaluation) == bound.leaf.transcript
        assert not any(m.transcripts.find(round, "coordinator") for m in cluster.members if m is not coordinator)


async def test_a_disk_that_takes_no_transcript_holds_no_round_up(cluster, monkeypatch):
    def keep(*_):
        raise StorageUnavailable("full")

    monkeypatch.setattr(Transcripts, "keep", keep)
    monkeypatch.setattr(Transcripts, "keep_leaf", keep)
    async with cluster:
        await cluster.all_bound(await cluster.apply("web", 1))


async def test_a_status_reaches_the_coordinator_with_the_next_renewal(cluster):
    async with cluster:
        workload = await cluster.apply("web", 1)
        await cluster.all_bound(workload)
        (key,) = cluster.keys(workload)
        winner = cluster.members[cluster.holders(key)[0]]
        winner.service.status_changed(key, InstanceStatus(phase="Running", ready=True))
        reports = cluster.coordinator(workload).reports
        await cluster.until(lambda: key in reports.shown and reports.shown[key][0].ready, 5.0)
        assert reports.shown[key][1].leaf.peer == winner.peer


async def test_a_confidential_template_is_opened_by_the_winner_alone(cluster):
    async with cluster:
        workload = await cluster.apply("secret", 1, confidential=True)
        await cluster.all_bound(workload)
        (key,) = cluster.keys(workload)
        binding = cluster.members[cluster.holders(key)[0]].service.bindings()[0]
        assert decode(binding.template, Body).spec["template"]["containers"][0]["name"] == "main"


async def test_a_demand_that_fits_nowhere_waits_with_a_reason_and_costs_less_and_less_budget(cluster):
    async with cluster:
        huge = Figures(cpu_milli=30_000, memory_bytes=GIB, disk_bytes=0, gpu_count=0)
        workload = await cluster.apply("huge", 1, figures=huge)
        reports = [member.reports for member in cluster.members]
        (key,) = cluster.keys(workload)
        await cluster.until(lambda: any(r.shown.get(key) and r.shown[key][0].reason == "NoNodeFits" for r in reports))
        await asyncio.sleep(60)
        spent = max(member.journal.rounds.count(1) for member in cluster.members)
        assert 4 <= spent <= 14, "each attempt is two decisions: the second one rounds in favour of fitting"


@pytest.mark.parametrize("moment", ["veil/release.1", "veil/accept.2", "veil/bound.2"])
async def test_the_coordinator_dies_in_the_middle_of_a_round(cluster, moment):
    """Killed when a message of that kind is on its way: exactly one binding comes about, whoever makes it."""
    async with cluster:
        await asyncio.sleep(0.5)
        coordinator = next(m for m in cluster.members if m.service.coordinates(object_id("team", "web")))
        coordinator.capacity._total = Figures(cpu_milli=0, memory_bytes=0, disk_bytes=0, gpu_count=0)
        tag, seen = moment.encode(), asyncio.Event()

        cluster.network.afflict(Trap(tag, coordinator.peer, seen))
        workload = await cluster.apply("web", 1)
        async with asyncio.timeout(5.0):
            await seen.wait()
        await coordinator.kill()
        cluster.network.heal()
        await asyncio.sleep(3.0)
        cluster.network.set_state(coordinator.peer, PeerState.DEAD)
        (key,) = cluster.keys(workload)
        await cluster.until(lambda: len(cluster.holders(key)) == 1)
        for _ in range(20):
            await asyncio.sleep(0.5)
            assert len(cluster.holders(key)) == 1
        await coordinator.revive()
        for _ in range(40):
            await asyncio.sleep(0.5)
        assert len(cluster.holders(key)) == 1


async def test_a_lost_winner_is_replaced_and_stops_when_it_comes_back(cluster):
    async with cluster:
        workload = await cluster.apply("web", 1)
        await cluster.all_bound(workload)
        (key,) = cluster.keys(workload)
        winner = cluster.members[cluster.holders(key)[0]]
        await winner.kill()
        await asyncio.sleep(2.0)
        cluster.network.set_state(winner.peer, PeerState.DEAD)
        await cluster.until(lambda: len(cluster.holders(key)) == 1, 120.0)
        await winner.revive()
        await cluster.until(lambda: winner.held() == [], 10.0)
        assert len(cluster.holders(key)) == 1


async def test_a_replica_that_is_no_longer_wanted_stops_and_is_gone(cluster):
    async with cluster:
        workload = await cluster.apply("web", 2)
        await cluster.all_bound(workload)
        last = cluster.keys(workload)[1]
        workload.wanted = 1
        await cluster.until(lambda: cluster.holders(last) == [], 10.0)
        coordinator = cluster.coordinator(workload)
        await cluster.until(lambda: tuple(last) in coordinator.reports.ended, 20.0)


async def test_scaling_keeps_the_bindings_that_are_there(cluster):
    """Up: only the new replica is placed. Down: the highest retires. Up again: it is placed anew, under the same name."""
    async with cluster:
        workload = await cluster.apply("web", 1)
        await cluster.all_bound(workload)

        def leaves():
            bindings = [binding for member in cluster.members for binding in member.service.bindings()]
            return {(b.generation, b.replica): b.leaf for b in bindings if b.state == "bound"}

        first = leaves()[1, 0]
        await cluster.scale(workload, 2)
        await cluster.all_bound(workload)
        second = leaves()
        assert second.keys() == {(1, 0), (1, 1)}
        await cluster.scale(workload, 1)
        await cluster.until(lambda: leaves() == {(1, 0): first}, 20.0)
        await cluster.scale(workload, 2)
        await cluster.all_bound(workload)
        assert leaves()[1, 0] == first
        assert leaves()[1, 1] != second[1, 1]
        assert sum(row.count for row in log_rows(cluster, workload)) == 3


async def test_a_holder_of_a_replica_beyond_the_count_is_told_to_stop(cluster):
    """By what the chain says alone: no Instance object is taken away."""
    async with cluster:
        workload = await cluster.apply("web", 2)
        await cluster.all_bound(workload)
        first, last = cluster.keys(workload)
        await cluster.scale(workload, 1)
        workload.wanted = 2
        await cluster.until(lambda: cluster.holders(last) == [], 10.0)
        await asyncio.sleep(10.0)
        assert (len(cluster.holders(first)), cluster.holders(last)) == (1, [])


async def test_without_a_quorum_it_says_so_and_goes_on_later(cluster):
    async with cluster:
        others = cluster.members[1:]
        for member in others:
            await member.kill()
            cluster.network.set_state(member.peer, PeerState.DEAD)
        workload = await cluster.apply("web", 1)
        first = cluster.members[0]
        (key,) = cluster.keys(workload)
        await cluster.until(lambda: first.reports.shown.get(key) and first.reports.shown[key][0].reason == "QuorumMissing")
        for member in others:
            await member.revive()
        await cluster.all_bound(workload, 90.0)


async def test_the_chain_is_away_for_a_while(cluster):
    async with cluster:
        workload = await cluster.apply("web", 1)
        cluster.ledger.away = True
        await asyncio.sleep(10.0)
        cluster.ledger.away = False
        cluster.ledger.wake()
        await cluster.all_bound(workload)


async def test_lost_messages_are_sent_again(cluster):
    async with cluster:
        cluster.network.afflict(Drop(protocol="round/1", times=10))
        workload = await cluster.apply("web", 2)
        await asyncio.sleep(5.0)
        cluster.network.heal()
        await cluster.all_bound(workload)


async def test_nobody_but_the_winner_is_given_the_resources(cluster):
    """What each receiver was given, as plaintext of the fake mesh: no resource figure, and telemetry only to the committee."""
    async with cluster:
        workload = await cluster.apply("web", 1)
        await cluster.all_bound(workload)
        for passage in cluster.network.passed:
            assert b"cpu_milli" not in passage.payload
            assert b"veil/container-resources" not in passage.payload
