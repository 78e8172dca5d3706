"""Selectors, patches, server-side apply, tables, targets, documents: values in, values out."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from veil.api import discovery, openapi, patches, protobuf
from veil.api.assemble import assemble
from veil.api.canonical import make_envelope
from veil.api.fake import a_workload, an_instance
from veil.api.field_managers import apply
from veil.api.kinds import INSTANCE, NODE, POD, WORKLOAD, Column
from veil.api.placements import placements
from veil.api.pods import pod
from veil.api.selectors import SELECTOR_MAX_CHARS, by_fields, by_labels
from veil.api.status import Rejected, status_of
from veil.api.tables import age, cell, table
from veil.api.targets import parse_options, parse_target
from veil.api.validation import admissible
from veil.client.answers import error_of_status
from veil.errors import (
    Conflict,
    FieldError,
    Forbidden,
    InvalidInput,
    ManifestInvalid,
    MeshUnavailable,
    NotFound,
    VeilError,
)
from veil.manifest.schemas import KINDS as SCHEMA_KINDS
from veil.manifest.schemas import schema
from veil.manifest.split import split
from veil.manifest.validate import default
from veil.store.objects import Gone
from veil.store.rows import LogRow, ObjectRow
from veil.types import Address, Digest, Generation, Shard
from veil.wire.objects import Body
from veil.wire.rounds import LeafBatch

# selectors


@pytest.mark.parametrize(
    ("text", "matching"),
    [
        ("", ["a", "b", "none"]),
        ("app=web", ["a"]),
        ("app==web", ["a"]),
        ("app!=web", ["b", "none"]),
        ("app", ["a", "b"]),
        ("!app", ["none"]),
        ("app in (web, db),tier", ["b"]),
        ("app notin (web)", ["b", "none"]),
        ("example.org/x=1", ["b"]),
        ("app in (web,db),!tier", ["a"]),
    ],
)
def test_label_selectors(text: str, matching: list[str]) -> None:
    labels: dict[str, dict[str, str]] = {
        "a": {"app": "web"},
        "b": {"app": "db", "tier": "x", "example.org/x": "1"},
        "none": {},
    }
    match = by_labels(text)
    assert [name for name, values in labels.items() if match(values)] == matching


@pytest.mark.parametrize("text", ["a b", "=x", "a in (b", "a in b", "a=b=c", "x" * (SELECTOR_MAX_CHARS + 1)])
def test_selectors_that_are_not_understood_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        by_labels(text)


def test_field_selectors() -> None:
    obj = an_instance()
    assert by_fields("metadata.name=hello-1-0,status.ready=true,spec.replica=0")(obj)
    assert by_fields("status.node!=n1,status.node=")(obj)
    assert not by_fields("metadata.namespace=other")(obj)
    with pytest.raises(InvalidInput):
        by_fields("nonsense")


# patches

JSON = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text(max_size=3), JSON, max_size=4)


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patches_as_in_the_appendix_of_rfc_7386(target: Any, patch: Any, result: Any) -> None:
    assert patches.merge(target, patch) == result


@given(OBJECTS, OBJECTS)
def test_a_difference_makes_the_one_into_the_other(before: Any, after: Any) -> None:
    assert patches.merge(before, patches.difference(before, after)) == after


@given(OBJECTS, OBJECTS)
def test_merging_changes_neither_side(target: Any, patch: Any) -> None:
    copies = msgspec.json.encode((target, patch))
    patches.merge(target, patch)
    assert msgspec.json.encode((target, patch)) == copies


@pytest.mark.parametrize(
    "operations",
    [{}, [{"op": "frob"}], [{"op": "remove", "path": "/x"}], [1], [{"op": "test", "path": "/a", "value": 2}], [{"op": "add"}]],
)
def test_json_patches_that_do_not_fit_are_refused(operations: Any) -> None:
    with pytest.raises(InvalidInput):
        patches.json_patch({"a": 1}, operations)


def test_strategic_patches_merge_maps_and_refuse_the_rest() -> None:
    assert patches.strategic({"a": {"b": "c"}}, {"a": {"d": "e"}}) == {"a": {"b": "c", "d": "e"}}
    for patch in ({"$patch": "replace"}, {"a": [{"name": "x"}]}, []):
        with pytest.raises(InvalidInput):
            patches.strategic({}, patch)


# server-side apply


def applied(live: Any, manager: str, force: bool = False, **spec: Any) -> Any:
    obj = {"apiVersion": "v1", "kind": "X", "metadata": {"name": "x"}, "spec": spec}
    return apply(live, obj, manager=manager, force=force, now="2026-01-01T00:00:00Z")


def test_a_field_that_is_no_longer_applied_goes_away_unless_another_applies_it() -> None:
    first = applied(None, "a", one=1, two={"x": 1}, three=3)
    second = applied(first, "b", three=3)
    third = applied(second, "a", one=1)
    assert third["spec"] == {"one": 1, "three": 3}


def test_a_field_of_another_manager_is_a_conflict_that_force_takes_over() -> None:
    first = applied(None, "a", one=1)
    with pytest.raises(Rejected, match=r"\.spec\.one") as caught:
        applied(first, "b", one=2)
    assert (caught.value.code, caught.value.causes[0]["field"]) == (409, ".spec.one")
    forced = applied(first, "b", force=True, one=2)
    assert forced["spec"] == {"one": 2}
    assert [entry["manager"] for entry in forced["metadata"]["managedFields"]] == ["b"]
    assert applied(first, "b", one=1)["spec"] == {"one": 1}, "the same value is shared, no conflict"


def test_a_conflict_is_found_above_and_below_the_field() -> None:
    first = applied(None, "a", box={"x": 1})
    with pytest.raises(Rejected):
        applied(first, "b", box=5)
    with pytest.raises(Rejected):
        applied(applied(None, "a", box=5), "b", box={"x": 1})


def test_applying_the_same_again_changes_nothing() -> None:
    first = applied(None, "b", one=1)
    both = applied(first, "a", two=2)
    assert applied(both, "a", two=2) == both
    assert applied(both, "b", one=1) == both


def test_what_others_changed_by_hand_is_set_back() -> None:
    first = applied(None, "a", one=1)
    changed = {**first, "spec": {"one": 9, "hand": True}}
    assert applied(changed, "a", one=1)["spec"] == {"one": 1, "hand": True}


def test_labels_are_owned_but_names_and_uids_are_not() -> None:
    live = applied(None, "a", one=1)
    live["metadata"] |= {"uid": "u", "labels": {"theirs": "1"}}
    obj = {"apiVersion": "v1", "kind": "X", "metadata": {"name": "x", "uid": "other", "labels": {"mine": "2"}}}
    new = apply(live, obj, manager="a", force=False, now="")
    assert new["metadata"]["uid"] == "u"
    assert new["metadata"]["labels"] == {"theirs": "1", "mine": "2"}


# tables


def test_a_table_has_the_kinds_columns_and_one_row_for_each_object() -> None:
    shown = table(INSTANCE, [an_instance(node="n1", placement={"shard": 3, "leaf": "ab" * 32})], {}, now_s=0)
    names = [column["name"] for column in shown["columnDefinitions"]]
    row = dict(zip(names, shown["rows"][0]["cells"], strict=True))
    assert (row["Name"], row["Phase"], row["Node"], row["Shard"]) == ("hello-1-0", "Running", "n1", 3)
    assert row["Leaf"] == "abababab…abababab"
    assert shown["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    assert "object" not in table(INSTANCE, [an_instance()], {}, now_s=0, include="None")["rows"][0]
    assert table(INSTANCE, [an_instance()], {}, now_s=0, include="Object")["rows"][0]["object"]["kind"] == "Instance"


@pytest.mark.parametrize("kind", [WORKLOAD, INSTANCE, NODE, POD])
def test_objects_without_status_have_cells_too(kind: Any) -> None:
    bare = {"metadata": {"name": "x"}}
    assert len(table(kind, [bare], {}, now_s=0)["rows"][0]["cells"]) == len(kind.columns) + 1


def test_cells_of_conditions_and_ratios() -> None:
    conditions = [{"type": "Placed", "status": "False", "reason": "NoNodeFits"}]
    obj = {"metadata": {}, "spec": {"replicas": 3}, "status": {"readyReplicas": 1, "conditions": conditions}}
    assert cell(obj, Column("", "condition:Placed"), 0) == "False"
    assert cell(obj, Column("", "reason:Placed"), 0) == "NoNodeFits"
    assert cell(obj, Column("", "ratio:status.readyReplicas,spec.replicas"), 0) == "1/3"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (119, "119s"), (120, "2m"), (150, "2m30s"), (3600, "60m"), (4 * 3600, "4h"), (72 * 3600, "3d"), (-5, "0s")],
)
def test_ages_are_in_coarse_units(seconds: int, text: str) -> None:
    assert age("2026-01-01T00:00:00Z", 1767225600 + seconds) == text


# targets


def test_paths_are_taken_apart() -> None:
    target = parse_target("/apis/veil.dev/v1alpha1/namespaces/a/workloads/b/status")
    assert (target.kind, target.namespace, target.name, target.subresource) == (WORKLOAD, "a", "b", "status")
    assert parse_target("/api/v1/namespaces/a").name == "a"
    assert parse_target("/api/v1/namespaces/a/status").subresource == "status"
    assert parse_target("/api/v1/namespaces/a/pods/b/log").subresource == "log"
    assert parse_target("/apis/veil.dev/v1alpha1/nodes/a%2Fb").name == "a/b"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api",
        "/api/v1",
        "/api/v2/pods",
        "/apis/veil.dev/v1/workloads",
        "/apis/veil.dev/v1alpha1/nodes/n/log",
        "/apis/veil.dev/v1alpha1/namespaces/a/nodes",
        "/api/v1/namespaces/a/pods/b/exec/more",
        "/api/v1/namespaces/a/pods/b/log/more",
        "/other",
    ],
)
def test_other_paths_are_not_found(path: str) -> None:
    with pytest.raises(Rejected) as caught:
        parse_target(path)
    assert caught.value.code == 404


def test_options() -> None:
    options = parse_options({"dryRun": "All", "force": "True", "fieldValidation": "Warn"}, "kubectl/v1.32 (linux)")
    assert (options.dry_run, options.force, options.validation, options.manager) == (True, True, "Warn", "kubectl")
    for query in ({"dryRun": "client"}, {"fieldValidation": "Maybe"}, {"fieldManager": "x" * 200}):
        with pytest.raises(InvalidInput):
            parse_options(query)


# errors


@pytest.mark.parametrize(
    "error",
    [
        NotFound("no x", hint="look"),
        Conflict("changed"),
        Forbidden("no", hint="ask"),
        MeshUnavailable("nobody", hint="wait"),
        InvalidInput("bad"),
    ],
)
def test_errors_survive_the_way_through_a_status(error: VeilError) -> None:
    back = error_of_status(status_of(error, {"name": "x", "kind": "workloads"}))
    assert (back.message, back.hint) == (error.message, error.hint)
    assert back.exit_code == error.exit_code
    assert isinstance(back, type(error))


def test_a_manifests_errors_survive_with_their_fields() -> None:
    error = ManifestInvalid([FieldError("spec.a", "is wrong"), FieldError("spec.b", "is missing")], hint="see")
    status = status_of(error, {"name": "x", "group": "veil.dev", "kind": "Workload"})
    assert status["message"].startswith('Workload.veil.dev "x" is invalid: [spec.a: is wrong, spec.b: is missing]')
    back = error_of_status(status)
    assert isinstance(back, ManifestInvalid)
    assert back.errors == error.errors


def test_a_version_that_is_gone_is_expired() -> None:
    assert (status_of(Gone("old"))["code"], status_of(Gone("old"))["reason"]) == (410, "Expired")


# documents


def test_discovery_has_what_clients_wait_for() -> None:
    documents = discovery.documents()
    core = {entry["name"]: entry for entry in documents["/api/v1"]["resources"]}
    assert core["namespaces"]["verbs"]
    assert {"pods", "pods/log"} <= core.keys()
    own = {entry["name"]: entry for entry in documents["/apis/veil.dev/v1alpha1"]["resources"]}
    assert own["workloads"]["shortNames"] == ["wl"]
    assert "workloads/status" in own
    assert {"watch", "patch", "create"} <= set(own["workloads"]["verbs"])
    assert "create" not in own["nodes"]["verbs"]
    assert [group["name"] for group in documents["/apis"]["groups"]] == ["veil.dev", "authorization.k8s.io"]


def test_openapi_is_made_of_the_schemas() -> None:
    documents = openapi.documents({kind: schema(kind) for kind in SCHEMA_KINDS})
    assert set(msgspec.json.decode(documents[""])["paths"]) == {"api/v1", "apis/veil.dev/v1alpha1"}
    document = msgspec.json.decode(documents["apis/veil.dev/v1alpha1"])
    workload = document["components"]["schemas"]["dev.veil.v1alpha1.Workload"]
    assert workload["properties"]["spec"]["properties"]["replicas"]["maximum"] == 1000
    requests = workload["properties"]["spec"]["properties"]["template"]["properties"]["containers"]["items"]
    assert requests["properties"]["resources"]["properties"]["requests"]["properties"]["cpu"]["x-kubernetes-int-or-string"]
    assert "$defs" not in str(document)
    patch = document["paths"]["/apis/veil.dev/v1alpha1/namespaces/{namespace}/workloads/{name}"]["patch"]
    assert "fieldValidation" in str(patch["parameters"])


# kubectl's protobuf


def field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2, len(content)]) + content


def wrapped(version: str, kind: str, raw: bytes) -> bytes:
    named = field(1, field(1, version.encode()) + field(2, kind.encode()))
    return protobuf.MAGIC + named + field(2, raw) + field(3, b"") + field(4, b"")


def test_protobuf_bodies_are_read() -> None:
    label = field(11, field(1, b"a") + field(2, b"b"))
    raw = field(1, field(1, b"team") + field(2, b"") + label + b"\x38\x00") + field(2, b"") + field(3, b"")
    assert protobuf.decode(wrapped("v1", "Namespace", raw)) == {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "team", "labels": {"a": "b"}},
    }


@given(st.binary(max_size=64))
def test_any_other_bytes_are_refused(data: bytes) -> None:
    for body in (data, protobuf.MAGIC + data, wrapped("v1", "Namespace", data)):
        try:
            assert isinstance(protobuf.decode(body), dict)
        except InvalidInput:
            continue


# assembling


def row(generation: int = 3, template: int = 2) -> ObjectRow:
    where = split(default(a_workload())).object_id
    owner = Address("0x" + "11" * 20)
    return ObjectRow(
        kind=2,
        object_id=where,
        generation=Generation(generation),
        owner=owner,
        envelope=b"",
        block=1,
        template_generation=Generation(template),
        template_block=1,
    )


def test_an_assembled_object_is_what_was_taken_apart() -> None:
    checked, _ = admissible(a_workload(), None, "Strict")
    parts = split(checked)
    envelope = make_envelope(parts, uid=bytes(range(16)), resources=bytes(32))
    whole = assemble(row(), envelope, parts.body, parts.resources, None)
    assert whole["spec"] == checked["spec"]
    assert whole["metadata"]["labels"] == {"app": "hello"}
    assert whole["metadata"]["generation"] == 3
    assert whole["metadata"]["annotations"] == {"veil.dev/template-generation": "2"}
    assert admissible(whole, whole, "Strict")[0]["spec"] == whole["spec"], "once is as good as twice"


def test_what_a_node_may_not_read_is_left_out_and_named() -> None:
    checked, _ = admissible(a_workload(confidential=True), None, "Strict")
    parts = split(checked)
    assert parts.template is not None
    envelope = make_envelope(parts, uid=bytes(16), resources=bytes(32), template=bytes(32))
    hidden = assemble(row(), envelope, None, None, None)
    assert hidden["metadata"]["annotations"] == {
        "veil.dev/withheld": "template,resources",
        "veil.dev/template-generation": "2",
    }
    assert "template" not in hidden["spec"]
    assert hidden["spec"]["confidential"] is True
    with pytest.raises(Forbidden, match="cannot read the template"):
        admissible({**hidden, "spec": {**hidden["spec"], "replicas": 4}}, hidden, "Strict")
    opened = assemble(row(), envelope, None, parts.resources, hidden, Body(spec={"template": parts.template}))
    assert opened["spec"] == checked["spec"]
    assert "veil.dev/withheld" not in opened["metadata"]["annotations"]


def test_local_parts_stay_with_the_object_and_not_with_its_name() -> None:
    checked, _ = admissible(a_workload(), None, "Strict")
    parts = split(checked)
    envelope = make_envelope(parts, uid=bytes(16), resources=bytes(32))
    live = assemble(row(), envelope, parts.body, parts.resources, None)
    live["metadata"]["annotations"] = {"note": "x", "veil.dev/template-generation": "7"}
    live["status"] = {"readyReplicas": 1}
    again = assemble(row(4, 2), envelope, parts.body, parts.resources, live)
    assert again["metadata"]["annotations"] == {"note": "x", "veil.dev/template-generation": "2"}
    assert again["status"] == {"readyReplicas": 1}
    other = make_envelope(parts, uid=bytes([1] * 16), resources=bytes(32))
    fresh = assemble(row(5, 5), other, parts.body, parts.resources, live)
    assert fresh["metadata"]["annotations"] == {"veil.dev/template-generation": "5"}
    assert "status" not in fresh


def test_a_pod_of_an_instance_whose_workload_is_unknown() -> None:
    shown = pod(an_instance(phase="Failed", exitCode=3, reason="ContainerFailed"), None)
    assert shown["status"]["phase"] == "Failed"
    assert shown["status"]["containerStatuses"][0]["state"] == {"terminated": {"exitCode": 3, "reason": "ContainerFailed"}}


def test_each_leaf_of_an_append_is_a_placement() -> None:
    root, sender = Digest(bytes([7] * 32)), Address("0x" + "11" * 20)
    log = LogRow(shard=Shard(3), sequence=9, root=root, count=2, data=root, sender=sender, block=40)
    batch = LeafBatch(shard=3, sequence=9, leaves=(bytes([1] * 32), bytes([2] * 32)))
    shown = placements(log, batch)
    assert [item["metadata"]["name"] for item in shown] == ["3-9-0", "3-9-1"]
    assert (shown[1]["spec"]["leaf"], shown[1]["spec"]["block"]) == ("02" * 32, 40)
    (unknown,) = placements(log, None)
    assert (unknown["metadata"]["name"], "leaf" in unknown["spec"]) == ("3-9", False)
