"""`veil why`: every reason has words without figures; what a served object says comes out as a class and a thing to do."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
from cli_ran import Veil

from veil.api.fake import FakeNode, a_workload, an_instance
from veil.cli.explanations import EXPLANATIONS, SILENT, UNKNOWN, Cause, explanation
from veil.cli.why import label_notes, mark_notes, node_notes, of_instance, of_workload, taint_notes, vouch_notes

ROOT = Path(__file__).parents[3]
SOURCES = ("veil/placement/reasons.py", "veil/agent/status.py", "veil/rollout/status.py")
PAGE = (ROOT / "docs" / "reference" / "conditions.md").read_text()


def reasons(source: str) -> set[str]:
    tree = ast.parse((ROOT / source).read_text())
    values = [
        node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]
    return {value for value in values if re.fullmatch(r"[A-Z][A-Za-z]+", value)}


CONDITIONS = {"Placed", "Available", "Progressing", "UnderReplicated", "DecryptionChecked", "KeysReady", "Active"}


def on_the_page() -> set[str]:
    """The reasons in the sections before `## Node`, whose conditions are `veil doctor`'s."""
    text = PAGE.split("## Node")[0]
    return set(re.findall(r"`([A-Z][a-z]+[A-Za-z]*)`", text)) - CONDITIONS


# the table


@pytest.mark.parametrize("source", SOURCES)
def test_every_reason_that_the_code_gives_is_explained(source: str) -> None:
    found = reasons(source)
    assert len(found) >= 8
    assert found - set(EXPLANATIONS) == set()


def test_every_reason_on_the_page_is_explained() -> None:
    assert len(on_the_page()) >= 40
    assert on_the_page() - set(EXPLANATIONS) == set()


def test_a_new_reason_would_be_noticed() -> None:
    assert {"NoNodeFits", "BrandNew"} - set(EXPLANATIONS) == {"BrandNew"}
    assert explanation("BrandNew") is UNKNOWN
    assert explanation("") is SILENT


def test_no_words_have_a_figure_and_all_say_what_to_do() -> None:
    for reason, words in EXPLANATIONS.items():
        assert not re.search(r"\d", words.meaning + words.todo.replace("hello-1-0", "")), reason
        assert words.meaning.endswith("."), reason
        assert words.todo.endswith("."), reason


def test_the_classes_that_people_ask_for_are_there() -> None:
    classes = {reason: EXPLANATIONS[reason].cause for reason in EXPLANATIONS}
    assert classes["NoCandidates"] is Cause.NO_CANDIDATE
    assert classes["NoNodeFits"] is Cause.NONE_FITS
    assert classes["BudgetExhausted"] is Cause.BUDGET_SPENT
    assert classes["QuorumMissing"] is Cause.QUORUM_MISSING
    assert classes["DemandNotInEpoch"] is Cause.EPOCH_ROTATING
    assert classes["WaitingForFinality"] is Cause.CHAIN_NOT_FINAL
    assert {words.cause for words in EXPLANATIONS.values()} == set(Cause) - {Cause.UNKNOWN}


# what is found in an object


def condition(kind: str, reason: str, value: str = "False", message: str = "") -> dict[str, str]:
    return {"type": kind, "status": value, "reason": reason, "message": message}


def waiting(name: str, reason: str, message: str = "") -> dict[str, Any]:
    return an_instance(name, "Pending", conditions=[condition("Placed", reason, message=message), condition("Ready", reason)])


def running(name: str, *more: dict[str, str]) -> dict[str, Any]:
    conditions = [condition("Placed", "Appended", "True"), condition("Ready", "Running", "True"), *more]
    return an_instance(name, node="n1", conditions=conditions)


def test_an_instance_without_a_place_is_told_by_its_placed_condition() -> None:
    (finding,) = of_instance(waiting("hello-1-0", "NoNodeFits", "no eligible node has room for it"))
    assert (finding.condition, finding.cause, finding.message) == ("Placed", Cause.NONE_FITS, "no eligible node has room for it")


def test_a_placed_instance_is_told_by_its_ready_condition() -> None:
    conditions = [condition("Placed", "Appended", "True"), condition("Ready", "WaitingForFinality")]
    (finding,) = of_instance(an_instance(phase="Creating", conditions=conditions))
    assert (finding.condition, finding.cause) == ("Ready", Cause.CHAIN_NOT_FINAL)


def test_an_unchecked_decryption_is_told_besides() -> None:
    well, unchecked = of_instance(running("hello-1-0", condition("DecryptionChecked", "DecryptionUnchecked")))
    assert (well.cause, unchecked.cause) == (Cause.WELL, Cause.DECRYPTION_UNCHECKED)


def test_an_instance_that_nobody_spoke_of_is_told_as_that() -> None:
    bare = an_instance()
    bare.pop("status")
    (finding,) = of_instance(bare)
    assert explanation(finding.reason) is SILENT


def test_a_workload_tells_instances_of_one_reason_together_and_leaves_out_what_is_well() -> None:
    instances = [waiting("hello-1-0", "NoNodeFits"), waiting("hello-1-1", "NoNodeFits"), running("hello-1-2")]
    instances += [waiting("hello-1-3", "NoCandidates")]
    workload = a_workload() | {
        "status": {"conditions": [condition("Placed", "NoNodeFits"), condition("Available", "NoNodeFits")]}
    }
    found = of_workload(workload, instances)
    assert [(one.reason, one.subjects) for one in found] == [
        ("NoNodeFits", ("hello-1-0", "hello-1-1")),
        ("NoCandidates", ("hello-1-3",)),
    ]


def test_a_workload_without_instances_is_told_by_its_own_conditions() -> None:
    workload = a_workload() | {"status": {"conditions": [condition("Placed", "InstancesMissing")]}}
    assert [one.reason for one in of_workload(workload, [])] == ["InstancesMissing"]
    assert [explanation(one.reason) for one in of_workload(a_workload(), [])] == [SILENT]
    workload = a_workload() | {"status": {"conditions": [condition("Placed", "AllPlaced", "True")]}}
    assert [one.cause for one in of_workload(workload, [running("hello-1-0")])] == [Cause.WELL]


# what the surroundings add


def a_node(name: str, phase: str = "Active", labels: dict[str, str] | None = None, *conditions: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "veil.dev/v1alpha1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {},
        "status": {"phase": phase, "conditions": list(conditions)},
    }


def test_labels_that_no_active_node_has_are_named() -> None:
    nodes = [a_node("n1", labels={"disk": "ssd"}), a_node("n2", "Cordoned", {"zone": "b"})]
    assert list(label_notes({"disk": "ssd", "zone": "b"}, nodes)) == ["no Active node has the label zone=b"]
    assert list(label_notes({"disk": "ssd"}, nodes)) == ["Active and matching now: n1"]
    assert list(label_notes({"disk": "ssd"}, nodes[1:])) == ["no node is Active"]


def test_members_that_are_not_reached_and_keys_that_are_missing_are_named() -> None:
    nodes = [
        a_node(
            "n1",
            "Active",
            {},
            condition("Reachable", "SwimAlive", "True"),
            condition("KeysReady", "EpochIncomplete", message="x"),
        ),
        a_node("n2", "Active", {}, condition("Reachable", "SwimDown")),
        a_node("n3", "Gone", {}, condition("Reachable", "SwimDown")),
    ]
    assert list(node_notes(nodes)) == [
        "n1: KeysReady is False (EpochIncomplete): x",
        "n2 is not reached from here (SwimDown)",
    ]


def test_taints_that_are_not_tolerated_are_named() -> None:
    nodes = [a_node("n1"), a_node("n2"), a_node("n3", "Cordoned")]
    for node in nodes[1:]:
        node["spec"]["taints"] = {"dedicated": "db", "zone": "b"}
    assert list(taint_notes({"zone": "b"}, nodes)) == ["n2 has taints that are not tolerated: dedicated=db"]
    assert list(taint_notes({"zone": "b", "dedicated": "db"}, nodes)) == []


def test_nodes_that_are_marked_down_are_named() -> None:
    marked = a_node("n2", "Active", {}, condition("Eligible", "MarkedDown"))
    assert list(mark_notes([a_node("n1"), marked, a_node("n3", "Cordoned", {}, condition("Eligible", "Cordoned"))])) == [
        "n2 is marked down"
    ]


def test_nodes_that_nobody_vouches_for_are_named() -> None:
    nodes = [a_node("n1"), a_node("n2"), a_node("n3"), a_node("n4", "Cordoned")]
    for node, by in zip(nodes, ("0xadmin", "0xn2", "", ""), strict=True):
        node["status"] |= {"operator": f"0x{node['metadata']['name']}", **({"labelsVouchedBy": by} if by else {})}
    assert list(vouch_notes(nodes)) == [f"no administrator vouches for the labels of {name}" for name in ("n2", "n3")]


# the verb


async def test_why_says_class_reason_meaning_and_what_to_do(veil: Veil, served: FakeNode) -> None:
    workload = a_workload(placement={"nodeSelector": {"disk": "ssd"}})
    served.store.put({**workload, "metadata": {**workload["metadata"], "generation": 1}})
    served.store.put(a_node("n1"))
    served.store.put(waiting("hello-1-0", "NoCandidates", "no Active node has the labels"))
    for words in (["hello-1-0"], ["wl/hello"], ["hello"]):
        code, out, err = await veil("why", *words)
        assert (code, err) == (0, "")
        assert "no-candidate (NoCandidates)" in out
        assert EXPLANATIONS["NoCandidates"].todo in out
        assert "no Active node has the label disk=ssd" in out
    (said,) = json.loads((await veil("why", "hello-1-0", "-o", "json")).out)
    assert (said["class"], said["reason"], said["names"]) == ("no-candidate", "NoCandidates", ["hello-1-0"])
    assert said["notes"] == ["no Active node has the label disk=ssd"]


async def test_why_explains_a_reason_from_a_log_without_a_node(veil: Veil, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEIL_KUBECONFIG", "/nonexistent")
    code, out, _ = await veil("why", "--reason", "candidateomitted")
    assert (code, EXPLANATIONS["CandidateOmitted"].meaning in out) == (0, True)
    code, _, err = await veil("why", "--reason", "Nonsense")
    assert (code, "hint: one of: AllAvailable" in err) == (1, True)


async def test_why_of_what_is_not_there_is_exit_code_1_and_of_a_node_that_is_away_2(veil: Veil, served: FakeNode) -> None:
    assert (await veil("why")).code == 1
    assert (await veil("why", "nothere")).code == 1
    assert (await veil("why", "wl/nothere")).code == 1
    assert (await veil("why", "node/n1")).code == 1
    await served.server.close()
    assert (await veil("why", "hello-1-0")).code == 2
