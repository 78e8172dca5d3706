"""Key plans: the reference configurations are sound, and what cannot be made is refused before anything is made."""

from dataclasses import replace
from pathlib import Path

import pytest

from veil.errors import ConfigInvalid, ManifestInvalid
from veil.fhe.ceremony_plan import make_plan
from veil.fhe.encoding import default_encoding, parse_encoding
from veil.node.keyplan import KeyPlan, read_plan

PLANS = Path(__file__).parents[3] / "manifests" / "keys"
FILES = sorted(PLANS.glob("*.yaml"))


def plan_of(tmp_path: Path, spec: str) -> KeyPlan:
    path = tmp_path / "plan.yaml"
    path.write_text(f"apiVersion: veil.dev/v1alpha1\nkind: KeyPlan\nmetadata: {{name: test}}\nspec:\n{spec}\n")
    return read_plan(path)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_reference_configuration_can_be_held(path: Path) -> None:
    plan = read_plan(path)
    assert plan.members is not None
    assert plan.for_committee(plan.members) == plan
    made = make_plan(1, plan.members, plan.threshold, plan.circuits, plan.parameters)
    assert (made.members, made.threshold) == (plan.members, plan.threshold)
    assert parse_encoding(plan.encoding.to_json()) == plan.encoding


def test_there_is_a_reference_configuration_for_each_use() -> None:
    assert {"small", "standard", "precise", "designated"} <= {path.stem for path in FILES}


def test_a_plan_says_sizes_and_reference_node(tmp_path: Path) -> None:
    plan = read_plan(PLANS / "small.yaml")
    sizes = {resource.name: resource.sizes for resource in plan.encoding.resources}
    assert (sizes["cpu_milli"][-1], sizes["memory_bytes"][-1], len(sizes["cpu_milli"])) == (8000, 32 << 30, 270)
    assert plan.encoding.reference == {"cpu_milli": 8000, "memory_bytes": 32 << 30}
    own = plan_of(tmp_path, "  members: 3\n  threshold: 2\n  sizes:\n    gpu: {maximum: 2}")
    assert own.encoding.resources[3].sizes == (0, 1, 2)
    assert own.encoding.resources[0] == default_encoding().resources[0]


@pytest.mark.parametrize(
    ("spec", "line", "path"),
    [
        ("  members: 3\n  threshold: 2\n  candidates: [1]", 7, "spec.candidates[0]"),
        ("  members: 3\n  threshold: 2\n  parameters: strong", 7, "spec.parameters"),
        ("  members: 3\n  treshold: 2", 6, "spec.treshold"),
        ("  members: 3\n  threshold: 2\n  sizes:\n    cpu: {maximum: 0}", 7, "spec.sizes"),
        ("  members: 3\n  threshold: 2\n  referenceNode: {cpu: many, memory: 1Gi}", 7, "spec.referenceNode.cpu"),
    ],
)
def test_a_wrong_plan_is_told_with_its_line(tmp_path: Path, spec: str, line: int, path: str) -> None:
    with pytest.raises(ManifestInvalid) as caught:
        plan_of(tmp_path, spec)
    assert (path, line) in [(error.path, error.line) for error in caught.value.errors]


def test_no_file_and_no_document(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid):
        read_plan(tmp_path / "none.yaml")
    (tmp_path / "empty.yaml").write_text("")
    with pytest.raises(ManifestInvalid):
        read_plan(tmp_path / "empty.yaml")


@pytest.mark.parametrize(
    ("plan", "members", "words"),
    [
        (KeyPlan(threshold=2), 4, "two disjoint groups"),
        (KeyPlan(threshold=3), 6, "two disjoint groups"),
        (KeyPlan(threshold=4), 3, "threshold of 4"),
        (KeyPlan(threshold=2), 2, "no decryption could ever be checked"),
        (KeyPlan(threshold=1), 1, "no decryption could ever be checked"),
        (KeyPlan(threshold=2, members=3), 4, "the committee file names 4"),
        (KeyPlan(threshold=1, mode="designated"), 2, "one node holds the whole key"),
        (KeyPlan(threshold=2, mode="designated"), 1, "one node holds the whole key"),
        (KeyPlan(threshold=2, candidates=(4, 4)), 3, "circuits"),
    ],
)
def test_an_impossible_committee_is_refused(plan: KeyPlan, members: int, words: str) -> None:
    with pytest.raises(ConfigInvalid, match=words):
        plan.for_committee(members)


def test_possible_committees() -> None:
    for members, threshold in ((3, 2), (4, 3), (5, 3), (20, 11)):
        assert KeyPlan(threshold=threshold).for_committee(members).members == members
    assert replace(KeyPlan(threshold=1), mode="designated").for_committee(1).members == 1
