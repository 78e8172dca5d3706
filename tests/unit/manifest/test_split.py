"""Taken apart and put together again; no figure in any public part."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from veil.manifest.quantity import format_bytes, format_cpu
from veil.manifest.split import Parts, demand_of, join, split
from veil.manifest.validate import default, read, validate_object
from veil.wire.codec import encode
from veil.wire.objects import ContainerResources, Envelope, Resources, object_id

MANIFESTS = Path(__file__).parents[3] / "manifests"


def example(name: str) -> dict[str, Any]:
    [obj] = read((MANIFESTS / name).read_text(), name)
    return obj


def envelope(parts: Parts) -> Envelope:
    """As admission makes it, with digests that stand for the real ones."""
    return Envelope(
        kind=parts.kind,  # type: ignore[arg-type]
        namespace=parts.namespace,
        name=parts.name,
        uid=bytes(16),
        labels=parts.labels,
        replicas=parts.replicas,
        policy=parts.policy,
        node_selector=parts.node_selector,
        tolerations=parts.tolerations,
        region=parts.region,
        anti_affinity=parts.anti_affinity,
        vouched_labels=parts.vouched_labels,
        body=bytes(32) if parts.body else b"",
        template=bytes(32) if parts.template else b"",
    )


def test_hello() -> None:
    parts = split(example("hello.yaml"))
    assert (parts.kind, parts.namespace, parts.name, parts.replicas, parts.policy) == (
        "Workload",
        "default",
        "hello",
        3,
        "BinPack",
    )
    assert parts.object_id == object_id("default", "hello")
    assert parts.labels == {"app": "hello"}
    assert parts.resources == Resources(containers={"hello": ContainerResources(cpu_milli=100, memory_bytes=64 << 20)})
    assert parts.template is None
    assert parts.body is not None
    assert "resources" not in parts.body.spec["template"]["containers"][0]
    assert demand_of(parts.resources) == (100, 64 << 20, 0, 0)


def test_confidential_leaves_nothing_public_of_the_template() -> None:
    parts = split(example("confidential.yaml"))
    assert parts.body is None
    assert parts.template is not None
    assert parts.template["containers"][0]["env"][0]["value"] == "only-the-winner-reads-this"
    obj = example("confidential.yaml")
    obj["spec"]["strategy"] = {"type": "Recreate"}
    parts = split(obj)
    assert parts.body is not None
    assert set(parts.body.spec) == {"strategy"}


def test_the_spec_comes_back() -> None:
    for name in ("hello.yaml", "confidential.yaml", "spread.yaml", "too-big.yaml"):
        obj = example(name)
        parts = split(obj)
        spec = join(envelope(parts), parts.body, parts.resources, parts.template)
        again = default(validate_object({**obj, "spec": spec}))
        assert split(again) == parts
        assert default(obj)["spec"] == (spec if name != "too-big.yaml" else default(obj)["spec"]), "quantities in shortest form"


def test_what_is_not_known_is_left_out() -> None:
    parts = split(example("hello.yaml"))
    assert parts.body is not None
    before = encode(parts.body)
    spec = join(envelope(parts), parts.body, None)
    assert "resources" not in spec["template"]["containers"][0]
    assert join(envelope(parts), parts.body, parts.resources)["template"]["containers"][0]["resources"]
    assert encode(parts.body) == before, "joining changes no part"
    hidden = split(example("confidential.yaml"))
    spec = join(envelope(hidden), hidden.body, None)
    assert spec["confidential"] is True
    assert "template" not in spec


def test_limits_alone_are_requests() -> None:
    obj = example("hello.yaml")
    container = obj["spec"]["template"]["containers"][0]
    container["resources"] = {"limits": container["resources"]["requests"]}
    assert split(obj) == split(example("hello.yaml"))


def test_namespaces() -> None:
    obj = example("namespace.yaml")
    parts = split(obj)
    assert (parts.namespace, parts.name, parts.body, parts.resources) == ("", "team-a", None, None)
    assert parts.object_id == object_id("team-a", "")
    assert parts.object_id[:16] == object_id("team-a", "any")[:16], "the registry's access control reads this half"
    obj["spec"] = {"editors": ["0x" + "ab" * 20]}
    parts = split(obj)
    assert parts.body is not None
    assert join(envelope(parts), parts.body, None) == obj["spec"]


FIGURES = st.builds(
    ContainerResources,
    cpu_milli=st.integers(0, 10**9),
    memory_bytes=st.integers(0, 2**60),
    disk_bytes=st.integers(0, 2**60),
    gpu_count=st.integers(0, 64),
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), FIGURES, min_size=1), st.booleans())
def test_figures_are_exact_and_in_no_public_part(figures: dict[str, ContainerResources], confidential: bool) -> None:
    containers = [
        {
            "name": name,
            "image": "x",
            "resources": {
                "requests": {
                    "cpu": format_cpu(asked.cpu_milli),
                    "memory": format_bytes(asked.memory_bytes),
                    "ephemeral-storage": str(asked.disk_bytes),
                    "nvidia.com/gpu": asked.gpu_count,
                }
            },
        }
        for name, asked in figures.items()
    ]
    spec = {"confidential": confidential, "template": {"containers": containers}}
    obj = validate_object({"apiVersion": "veil.dev/v1alpha1", "kind": "Workload", "metadata": {"name": "w"}, "spec": spec})
    parts = split(obj)
    assert parts.resources == Resources(containers=figures)
    bare = split({**obj, "spec": {**spec, "template": {"containers": [{"name": name, "image": "x"} for name in figures]}}})
    for part in (field.name for field in fields(Parts) if field.name != "resources"):
        assert getattr(parts, part) == getattr(bare, part), "public parts are the same whatever is asked for"
    again = join(envelope(parts), parts.body, parts.resources, parts.template)
    assert split({**obj, "spec": again}) == parts


def test_hello_says_what_it_must() -> None:
    script = example("hello.yaml")["spec"]["template"]["containers"][0]["args"][0]
    assert "hello from $VEIL_NODE" in script
    assert re.search(r"trap .* TERM", script)
