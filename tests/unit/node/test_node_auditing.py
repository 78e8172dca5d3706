"""Auditing over the fake mesh: what a node gathers, from whom, and what it tells whom."""

import base64
from pathlib import Path
from typing import Any

import msgspec
import pytest
from placement_cluster import Cluster
from placement_doubles import key_epoch_of

from veil.errors import ChainUnavailable, Forbidden, InvalidInput, MeshUnavailable, NotFound
from veil.mesh.ports import PeerState
from veil.node.auditing import AUDIT, Auditing, parse_name
from veil.placement.ranking import shard_of
from veil.types import PeerId, RoundId
from veil.wire.audits import AuditAnswer, AuditQuestion
from veil.wire.codec import decode, encode
from veil.wire.merkle import is_in, leaf_hash
from veil.wire.rounds import Bound, LeafBatch, Transcript

pytestmark = pytest.mark.looptime


class Scene:
    """Four nodes, of which the first three decrypt, and one replica that is bound. Every node can audit."""

    def __init__(self, tmp_path: Path) -> None:
        self.cluster = Cluster(tmp_path, nodes=4)
        self.cluster.key_epoch = key_epoch_of(self.cluster.peers[:3], 2)

    async def __aenter__(self) -> "Scene":
        await self.cluster.__aenter__()
        workload = await self.cluster.apply("web", 1)
        await self.cluster.all_bound(workload)
        self.audits = [
            Auditing(
                local=m.service.local,
                mesh=m.mesh,
                transcripts=m.transcripts,
                bindings=m.service.bindings,
                verify=m.chain.verify_placement,
            )
            for m in self.cluster.members
        ]
        held = [(m, b) for m in self.cluster.members for b in m.service.bindings() if b.state == "bound"]
        (self.winner, self.binding) = held[0]
        self.bound = decode(self.binding.bound, Bound)
        self.round = RoundId(self.bound.leaf.round)
        self.leaf = leaf_hash(self.bound.leaf)
        self.coordinator = next(m for m in self.cluster.members if m.transcripts.find(self.round, "coordinator"))
        row = self.cluster.members[0].projection.log_at(shard_of(workload.id), self.bound.sequence)
        leaves = decode(await self.winner.mesh.get(row.data), LeafBatch).leaves
        self.name = f"{row.shard}-{row.sequence}-{leaves.index(self.leaf)}"
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.cluster.__aexit__(*error)

    async def audit(self, member: Any) -> dict[str, Any]:
        return await self.audits[member.number].audit(self.name)

    async def ask(self, member: Any, to: Any) -> AuditAnswer:
        answer = await member.mesh.request(to.peer, AUDIT, encode(AuditQuestion(leaf=self.leaf)))
        return decode(answer, AuditAnswer)

    def others(self) -> list[Any]:
        """Committee members that evaluated and did not coordinate."""
        members = self.cluster.members[:3]
        return [m for m in members if m is not self.coordinator and m.transcripts.find(self.round, "member")]

    @property
    def outsider(self) -> Any:
        return self.cluster.members[3]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def check(report: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [one for one in report["checks"] if one["check"] == name]
    return found


async def test_a_member_gathers_everything_and_evaluates_again(scene: Scene) -> None:
    async with scene:
        for member in scene.others():
            report = await scene.audit(member)
            assert (report["verdict"], report["reevaluated"], report["liars"]) == ("agreed", True, [])
            assert {one["state"] for one in report["checks"]} == {"ok"}
            assert len(report["checks"]) == 14
            assert (report["workload"], report["replica"], report["round"]) == ("team/web", 0, scene.round.hex())
            assert report["winner"]["node"] == scene.cluster.members[0].projection.node(scene.winner.peer).name


async def test_a_member_that_is_shown_a_forged_transcript_names_the_coordinator(scene: Scene) -> None:
    async with scene:
        kept = scene.coordinator.transcripts.find(scene.round, "coordinator")
        forged = msgspec.structs.replace(kept, evaluation=bytes(32))
        scene.coordinator.transcripts.keep(scene.round, "coordinator", forged)
        report = await scene.audit(scene.others()[0])
        assert report["verdict"] == "lie"
        node = scene.cluster.members[0].projection.node(scene.coordinator.peer)
        assert [liar["node"] for liar in report["liars"]] == [node.name]


async def test_telemetry_that_was_changed_on_disk_is_named_as_damaged(scene: Scene, tmp_path: Path) -> None:
    async with scene:
        member = scene.others()[0]
        (file,) = tmp_path.glob(f"journal-{member.number}.transcripts/{scene.round.hex()}.member")
        file.write_bytes(file.read_bytes()[:-1] + b"?")
        report = await scene.audit(member)
        assert report["verdict"] == "incomplete"
        assert f"{scene.round.hex()}.member is damaged" in check(report, "telemetry")["message"]


async def test_without_its_coordinator_a_round_is_audited_as_far_as_it_goes(scene: Scene) -> None:
    async with scene:
        member = next(m for m in scene.others())
        scene.cluster.network.set_state(scene.coordinator.peer, PeerState.DEAD)
        report = await scene.audit(member)
        assert report["verdict"] == "incomplete"
        if scene.winner is scene.coordinator:
            assert check(report, "leaves")["state"] == "missing", "nobody else was given them"
        else:
            assert check(report, "leaf")["state"] == "ok", "the winner knows its leaf"
            assert check(report, "partials")["state"] == "missing"
            assert check(report, "evaluation")["state"] == "ok"


async def test_an_evaluator_that_is_away_is_a_gap_with_its_reason(scene: Scene) -> None:
    async with scene:
        member = scene.others()[0]
        member.service.local.epoch.evaluator.started = False
        report = await scene.audit(member)
        assert report["verdict"] == "incomplete"
        assert "the evaluator is not started" in check(report, "evaluation")["message"]


async def test_the_contract_itself_is_asked_about_the_leaf(scene: Scene) -> None:
    """What the node has read of the log may be a lie of its endpoint."""
    async with scene:
        member = scene.others()[0]
        auditing = scene.audits[member.number]
        row = member.projection.log_at(*map(int, scene.name.split("-")[:2]))
        asked: list[Any] = []

        async def denied(*arguments: Any) -> bool:
            asked.append(arguments)
            return False

        auditing._verify = denied
        report = await scene.audit(member)
        assert (report["verdict"], check(report, "contract")["state"]) == ("lie", "lie")
        ((shard, sequence, leaf, proof),) = asked
        assert (shard, sequence, leaf) == (row.shard, row.sequence, scene.leaf)
        assert is_in(leaf, proof, row.root)

        async def away(*_arguments: Any) -> bool:
            raise ChainUnavailable("the endpoint is away")

        auditing._verify = away
        report = await scene.audit(member)
        assert (report["verdict"], check(report, "contract")["state"]) == ("incomplete", "missing")
        assert "the endpoint is away" in check(report, "contract")["message"]


async def test_only_the_committee_and_home_nodes_are_told(scene: Scene) -> None:
    async with scene:
        member, outsider = scene.others()[0], scene.outsider
        answer = await scene.ask(member, scene.coordinator)
        assert (answer.bound, answer.transcript is not None) == (scene.bound, True)
        assert answer.transcript is not None
        assert answer.transcript.telemetry == ()
        if outsider is not scene.coordinator:
            with pytest.raises(MeshUnavailable):
                await scene.ask(outsider, scene.coordinator)
            scene.coordinator.service.local.view.home_peers = (outsider.peer,)
            answer = await scene.ask(outsider, scene.coordinator)
            assert (answer.bound, answer.transcript) == (scene.bound, None)


async def test_the_answer_to_a_stranger_is_forbidden_and_to_an_unknown_leaf_not_found(scene: Scene) -> None:
    async with scene:
        serve = scene.audits[scene.coordinator.number]._serve
        with pytest.raises(Forbidden):
            await serve(PeerId(bytes(32)), encode(AuditQuestion(leaf=scene.leaf)))
        with pytest.raises(NotFound):
            await serve(scene.others()[0].peer, encode(AuditQuestion(leaf=bytes(32))))


async def test_what_a_node_keeps_itself_can_be_had_whole(scene: Scene) -> None:
    async with scene:
        said = await scene.audits[scene.coordinator.number].transcript(scene.name)
        assert decode(base64.b64decode(said["bound"]), Bound) == scene.bound
        kept = {one["role"]: decode(base64.b64decode(one["content"]), Transcript) for one in said["transcripts"]}
        assert kept["coordinator"] == scene.coordinator.transcripts.find(scene.round, "coordinator")
        silent = next(m for m in scene.cluster.members if m not in (scene.coordinator, scene.winner))
        with pytest.raises(NotFound):
            await scene.audits[silent.number].transcript(scene.name)


async def test_a_placement_that_is_not_there_is_not_found(scene: Scene) -> None:
    async with scene:
        audits = scene.audits[0]
        shard, sequence, index = scene.name.split("-")
        for name in (f"{shard}-999-0", "15-999", "99-1-0", f"{shard}-{sequence}-9"):
            with pytest.raises(NotFound):
                await audits.audit(name)
        assert (await scene.audits[scene.others()[0].number].audit(f"{shard}-{sequence}"))["placement"] == f"{shard}-{sequence}"
        assert index == "0"


@pytest.mark.parametrize("name", ["", "1", "a-b", "1-2-3-4", "-1-2", "1--2", "1-2-", "१-२", "1-" + "9" * 20])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        parse_name(name)


def test_names_are_read() -> None:
    assert parse_name("3-17-2") == (3, 17, 2)
    assert parse_name("3-17") == (3, 17, None)
