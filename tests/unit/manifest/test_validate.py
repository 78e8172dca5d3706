"""What is wrong in a manifest is told all at once, by file, line and field."""

import contextlib
import copy
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veil.errors import ImageUnavailable, ManifestInvalid
from veil.identity import Identity, peer_id_text
from veil.manifest.rules import CONTAINERS_MAX, TEMPLATE_MAX_BYTES
from veil.manifest.schemas import KINDS, schema
from veil.manifest.validate import ERRORS_MAX, default, read, validate_object
from veil.runtime.reference import parse_reference
from veil.types import Secret

MANIFESTS = Path(__file__).parents[3] / "manifests"
GOOD = (MANIFESTS / "hello.yaml").read_text()
PEER = peer_id_text(Identity(Secret(b"p" * 32)).peer_id)


def workload(**spec: Any) -> dict[str, Any]:
    template = {"containers": [{"name": "main", "image": "veil.dev/busybox:1"}]}
    return {
        "apiVersion": "veil.dev/v1alpha1",
        "kind": "Workload",
        "metadata": {"name": "hello"},
        "spec": {"template": template, **spec},
    }


def container(**fields: Any) -> dict[str, Any]:
    return workload(template={"containers": [{"name": "main", "image": "veil.dev/busybox:1", **fields}]})


def problems(obj: Any) -> list[str]:
    try:
        validate_object(obj)
    except ManifestInvalid as error:
        return [str(one) for one in error.errors]
    return []


@pytest.mark.parametrize("path", sorted(MANIFESTS.glob("*.yaml")), ids=lambda path: path.name)
def test_the_examples_are_valid(path: Path) -> None:
    assert read(path.read_bytes(), str(path))


def test_every_error_names_file_line_and_field() -> None:
    text = """apiVersion: veil.dev/v1
kind: Workload
metadata:
  name: Hello_
  labels: {a b: c, n: 1}
spec:
  replica: 3
  replicas: -1
  confidential: yes
  strategy: {type: Rolling}
  template:
    containers:
      - name: a
        image: 1.10
        comand: [a]
        env: [{name: A, value: true}, {name: 1x}]
        resources: {requests: {cpu: 100mm, memory: 64MB, gpu: 1}}
      - image: x
"""
    with pytest.raises(ManifestInvalid) as error:
        read(text, "bad.yaml")
    at = "spec.template.containers[0]"
    assert str(error.value).splitlines() == [
        'bad.yaml:1: apiVersion: must be "veil.dev/v1alpha1", not "veil.dev/v1"',
        "bad.yaml:4: metadata.name: \"Hello_\" must be lower-case letters, digits and '-', beginning and ending with a letter"
        " or digit",
        "bad.yaml:5: metadata.labels[\"a b\"]: \"a b\" is not a label name: letters, digits, '-', '_' and '.', with an optional"
        " prefix such as example.org/",
        "bad.yaml:5: metadata.labels.n: must be a string, not 1: put it in quotes",
        "bad.yaml:7: spec.replica: unknown field, did you mean replicas?",
        "bad.yaml:8: spec.replicas: must be at least 0, not -1",
        'bad.yaml:9: spec.confidential: must be true or false, not "yes"',
        'bad.yaml:10: spec.strategy.type: unsupported value "Rolling": supported are RollingUpdate, Recreate',
        f"bad.yaml:14: {at}.image: must be a string, not 1.1: put it in quotes",
        f"bad.yaml:15: {at}.comand: unknown field, did you mean command?",
        f"bad.yaml:16: {at}.env[0].value: must be a string, not true: put it in quotes",
        f"bad.yaml:16: {at}.env[1].name: \"1x\" must be a variable name: letters, digits and '_', not beginning with a digit",
        f"bad.yaml:17: {at}.resources.requests.gpu: unknown field, did you mean nvidia.com/gpu?",
        f'bad.yaml:17: {at}.resources.requests.cpu: "100mm" has the unknown suffix "mm": known are '
        "Ki, Mi, Gi, Ti, Pi, Ei, n, u, m, k, M, G, T, P, E",
        f'bad.yaml:17: {at}.resources.requests.memory: "64MB" has the unknown suffix "MB", did you mean "M"?',
        "bad.yaml:18: spec.template.containers[1]: name is missing",
    ]
    assert error.value.exit_code == 1
    assert error.value.hint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("just text", 'm.yaml:1: must be an object with apiVersion, kind and metadata, not "just text"'),
        ("[1]", "m.yaml:1: must be an object with apiVersion, kind and metadata, not a list"),
        ("kind: Worklod", 'm.yaml:1: kind: unknown kind "Worklod", did you mean Workload?'),
        ("kind: Deployment", 'm.yaml:1: kind: unknown kind "Deployment": known are Workload, Namespace, Node, Instance'),
        ("kind: [a]", "m.yaml:1: kind: unknown kind a list: known are Workload, Namespace, Node, Instance"),
        ("apiVersion: veil.dev/v1alpha1", "m.yaml:1: kind is missing: one of Workload, Namespace, Node, Instance"),
        ("kind: Workload", "m.yaml:1: spec is missing"),
    ],
)
def test_what_is_no_object_of_ours(text: str, expected: str) -> None:
    with pytest.raises(ManifestInvalid) as error:
        read(text, "m.yaml")
    assert expected in str(error.value).splitlines()


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (workload(replicas="3"), 'spec.replicas: must be an integer, not "3"'),
        (workload(replicas=1.0), "spec.replicas: must be an integer, not 1.0"),
        (workload(replicas=True), "spec.replicas: must be an integer, not true"),
        (workload(replicas=None), "spec.replicas: must be an integer, not null"),
        (workload(replicas=1001), "spec.replicas: must be at most 1000, not 1001"),
        (workload(template=[]), "spec.template: must be an object, not a list"),
        (workload(template={"containers": []}), "spec.template.containers: needs at least 1 of them"),
        (workload(template={}), "spec.template: containers is missing"),
        (container(command="sh"), 'spec.template.containers[0].command: must be a list, not "sh"'),
        (container(image="a b"), 'spec.template.containers[0].image: "a b" must be an image reference'),
        (container(image=""), "spec.template.containers[0].image: must not be empty"),
        (container(workingDir="x"), 'spec.template.containers[0].workingDir: "x" must be an absolute path'),
        (container(resources={"requests": {"cpu": -1}}), 'spec.template.containers[0].resources.requests.cpu: "-1" is negative'),
        (
            container(resources={"requests": {"cpu": [1]}}),
            "spec.template.containers[0].resources.requests.cpu: must be a quantity, not a list",
        ),
        (
            container(resources={"requests": {"cpu": True}}),
            "spec.template.containers[0].resources.requests.cpu: must be a quantity, not true",
        ),
        (workload(placement={"policy": "Best"}), 'spec.placement.policy: unsupported value "Best": supported are BinPack'),
        (workload(placement={"policy": "LowestLatency"}), "spec.placement.policy: LowestLatency needs to know towards where"),
        (workload(placement={"region": "north"}), "spec.placement.region: only the policy LowestLatency looks at it"),
        (workload(strategy={"maxSurge": 0}), "spec.strategy.maxSurge: maxSurge and maxUnavailable are both 0"),
        (container(env=[{"name": "A"}, {"name": "A"}]), 'spec.template.containers[0].env[1].name: "A" is there twice'),
        (
            workload(template={"containers": [{"name": "a", "image": "x"}] * 2}),
            'spec.template.containers[1].name: "a" is there twice',
        ),
        (
            container(resources={"requests": {"cpu": 1}, "limits": {"cpu": 2}}),
            "spec.template.containers[0].resources.limits.cpu: must equal the request",
        ),
        (
            container(resources={"requests": {"cpu": 1}, "limits": {"memory": 2}}),
            "spec.template.containers[0].resources.limits.memory: must equal the request",
        ),
        (container(args=["x" * (TEMPLATE_MAX_BYTES + 1)]), "spec.template: takes"),
        (
            workload(
                template={
                    "containers": [
                        {"name": f"c{n}", "image": "x", "resources": {"requests": {"memory": "4Ei"}}} for n in range(3)
                    ]
                }
            ),
            "spec.template.containers: the containers ask for too much memory together",
        ),
    ],
)
def test_bad_workloads(obj: dict[str, Any], expected: str) -> None:
    assert any(expected in problem for problem in problems(obj)), problems(obj)


@pytest.mark.parametrize(
    ("image", "good"),
    [
        ("busybox", True),
        ("a.b/c_d/e--f__g:1.0", True),
        ("localhost:5000/x@sha256:" + "a" * 64, True),
        ("[::1]:5000/x:y", True),
        ("UPPER/..:bad:x", False),
        ("a/", False),
        ("a:", False),
        ("a@sha256:12", False),
        ("a..b", False),
        ("https://a/b", False),
    ],
)
def test_an_image_that_a_runtime_could_never_fetch_is_refused_before_anything_is_sent(image: str, good: bool) -> None:
    assert (problems(container(image=image)) == []) is good
    with contextlib.nullcontext() if good else pytest.raises(ImageUnavailable):
        parse_reference(image)


@pytest.mark.parametrize("name", ["", "A", "-a", "a-", "a_b", "a.b", "a\n", "x" * 64, "é", "a b"])
def test_bad_names(name: str) -> None:
    obj = workload()
    obj["metadata"]["name"] = name
    assert problems(obj)


def test_labels_that_do_not_fit_on_the_chain() -> None:
    obj = workload()
    obj["metadata"]["labels"] = {f"k{n}": "v" for n in range(16)}
    assert problems(obj) == []
    obj["metadata"]["labels"]["k16"] = "v"
    assert problems(obj) == ["metadata.labels: has 17 entries, at most 16 are taken"]
    obj["metadata"]["labels"] = {f"example.org/{n}{'x' * 40}": "y" * 60 for n in range(6)}
    assert "ENVELOPE_MAX_BYTES" in problems(obj)[0]


def test_what_is_taken() -> None:
    assert problems(container(resources={"requests": {"cpu": "1"}, "limits": {"cpu": "1000m"}})) == []
    assert problems(container(resources={"limits": {"cpu": 0.5, "memory": "64Mi"}})) == []
    assert problems(workload(strategy={"type": "Recreate", "maxSurge": 0})) == []
    served = workload()
    served["metadata"] |= {"uid": "u", "resourceVersion": "1", "creationTimestamp": None, "managedFields": [{"x": 1}]}
    served["status"] = {"conditions": [], "anything": {"else": 1}}
    assert problems(served) == []


def test_namespaces() -> None:
    def namespace(**spec: Any) -> dict[str, Any]:
        return {"apiVersion": "veil.dev/v1alpha1", "kind": "Namespace", "metadata": {"name": "team-a"}, "spec": spec}

    assert problems(namespace(homePeers=[PEER], editors=["0x" + "ab" * 20])) == []
    assert "peer ID" in problems(namespace(homePeers=["12D3KooWbad"]))[0]
    assert "at most 3" in problems(namespace(homePeers=[PEER + str(n) for n in range(4)]))[0]
    assert problems(namespace(homePeers=[PEER, PEER])) == ["spec.homePeers: has an item twice"]
    assert "Ethereum address" in problems(namespace(editors=["0x12"]))[0]
    inside = namespace()
    inside["metadata"]["namespace"] = "x"
    assert problems(inside) == ["metadata.namespace: a Namespace is in no namespace: remove it"]


def test_all_documents_are_checked_and_none_repeats() -> None:
    bad = GOOD.replace("replicas: 3", "replicas: x")
    with pytest.raises(ManifestInvalid) as error:
        read(f"{GOOD}---\n{bad}---\n{GOOD}---\nkind: Nope\n", "m.yaml")
    lines = str(error.value).splitlines()
    assert len(lines) == 4
    assert 'spec.replicas: must be an integer, not "x"' in lines[0]
    assert "metadata.name: Workload hello is there already, in line 5" in lines[1]
    assert "unknown kind" in lines[2]


def test_only_wanted_kinds() -> None:
    text = "apiVersion: veil.dev/v1alpha1\nkind: Node\nmetadata: {name: a}\n"
    assert read(text)
    with pytest.raises(ManifestInvalid, match="known are Workload"):
        read(text, kinds=["Workload", "Namespace"])


def test_errors_are_bounded() -> None:
    obj = workload(**{f"unknown{n}": 1 for n in range(500)})
    assert len(problems(obj)) == ERRORS_MAX
    obj = workload(**{"k" * 100_000: "v" * 100_000})
    assert len(problems(obj)[0]) < 400
    assert len(problems(workload(replicas="v" * 100_000))[0]) < 400
    namespace = {"apiVersion": "veil.dev/v1alpha1", "kind": "Namespace", "metadata": {"name": "a"}}
    assert len(problems(namespace | {"spec": {"homePeers": ["1" * 10_000]}})[0]) < 400


def test_validation_changes_nothing_and_gives_a_copy() -> None:
    obj = workload()
    before = copy.deepcopy(obj)
    out = validate_object(obj)
    assert out == obj == before
    out["spec"]["template"]["containers"].append(1)
    assert obj == before


def test_defaults() -> None:
    obj = default(workload())
    assert obj["metadata"]["namespace"] == "default"
    assert obj["spec"] == {
        "replicas": 1,
        "confidential": False,
        "placement": {"policy": "BinPack", "antiAffinity": False},
        "strategy": {"type": "RollingUpdate", "maxUnavailable": 0, "maxSurge": 1},
        "template": {
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "hostNetwork": False,
            "containers": [{"name": "main", "image": "veil.dev/busybox:1", "readOnlyRootFilesystem": False}],
        },
    }
    assert default(obj) == obj
    assert problems(obj) == []
    first, second = default(workload()), default(workload())
    first["spec"]["placement"]["policy"] = "changed"
    assert second["spec"]["placement"]["policy"] == "BinPack", "defaults are not shared"


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_described_and_every_reference_resolved(kind: str) -> None:
    def walk(part: Any, path: str) -> None:
        if isinstance(part, list):
            for item in part:
                walk(item, path)
        if not isinstance(part, dict):
            return
        assert "$ref" not in part, path
        for name, below in part.get("properties", {}).items():
            walk(below, f"{path}.{name}")
            if not path.endswith(("[]", "conditions")):
                assert below.get("description") or "const" in below or name == "metadata", f"{path}.{name}"
        walk(part.get("items"), path + "[]")

    walk(schema(kind), kind)
    assert schema(kind)["title"] == kind


MUTANTS = [None, True, -1, 1.5, "", "x", "\n", [], [1], {}, {"a": 1}, 2**70, "é" * 300]


@pytest.mark.parametrize("_", range(3))
def test_any_change_is_valid_or_refused(_: int) -> None:
    """Whatever one puts where, the answer is a list of errors or a valid object that default() takes."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    whole = default(read(GOOD)[0])
    whole["spec"]["template"]["containers"][0] |= {"env": [{"name": "A", "value": "b"}], "workingDir": "/"}
    for _step in range(150):
        obj = copy.deepcopy(whole)
        for _change in range(draw.randrange(1, 4)):
            place: Any = obj
            while True:
                key = draw.choice(list(place)) if isinstance(place, dict) else draw.randrange(len(place))
                if not isinstance(place[key], (dict, list)) or not place[key] or draw.random() < 0.2:
                    break
                place = place[key]
            if isinstance(place, dict) and draw.random() < 0.3:
                del place[key]
            else:
                place[key] = copy.deepcopy(draw.choice(MUTANTS))
            if not obj:
                break
        found = problems(obj)
        assert all("\n" not in one for one in found)
        if not found:
            assert default(default(obj)) == default(obj)
            assert problems(default(obj)) == []


KEYS = st.sampled_from(["kind", "apiVersion", "metadata", "spec", "name", "template", "x"])
LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=5)


@settings(max_examples=100, deadline=None)
@given(st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner)))
def test_any_json_is_refused_in_words(obj: Any) -> None:
    if isinstance(obj, dict):
        obj["kind"] = "Workload"
    assert problems(obj)


def probed(**probes: Any) -> list[str]:
    return problems(container(**probes))


EXEC = {"exec": {"command": ["true"]}}


def test_probes_and_init_containers_are_taken() -> None:
    probes = {"startupProbe": EXEC, "livenessProbe": {**EXEC, "terminationGracePeriodSeconds": 3}}
    web = {"httpGet": {"port": 8080, "path": "/a?b=c", "httpHeaders": [{"name": "Host", "value": "x"}]}, "successThreshold": 2}
    assert probed(**probes, readinessProbe=web) == []
    template = container()["spec"]["template"] | {"initContainers": [{"name": "first", "image": "veil.dev/busybox:1"}]}
    assert problems(workload(template=template)) == []
    filled = default(container(readinessProbe=web))["spec"]["template"]["containers"][0]["readinessProbe"]
    assert (filled["periodSeconds"], filled["timeoutSeconds"], filled["failureThreshold"]) == (10, 1, 3)
    assert filled["httpGet"]["scheme"] == "HTTP"


@pytest.mark.parametrize(
    ("probes", "said"),
    [
        ({"livenessProbe": {}}, "livenessProbe: needs exactly one of exec, httpGet, tcpSocket"),
        ({"livenessProbe": {**EXEC, "tcpSocket": {"port": 1}}}, "livenessProbe: needs exactly one of exec, httpGet, tcpSocket"),
        ({"livenessProbe": {**EXEC, "successThreshold": 2}}, "livenessProbe.successThreshold: must be 1: one success is enough"),
        ({"readinessProbe": {**EXEC, "terminationGracePeriodSeconds": 1}}, "unknown field"),
        ({"readinessProbe": {"tcpSocket": {"port": 65536}}}, "must be at most 65535"),
        ({"readinessProbe": {"tcpSocket": {"port": "web"}}}, "must be an integer"),
        ({"readinessProbe": {"httpGet": {"port": 1, "path": "x"}}}, "must begin with /"),
        ({"readinessProbe": {"httpGet": {"port": 1, "host": "10.0.0.1"}}}, "unknown field"),
        ({"readinessProbe": {"exec": {"command": []}}}, "needs at least 1"),
        ({"startupProbe": {**EXEC, "periodSeconds": 0}}, "must be at least 1"),
    ],
)
def test_probes_that_mean_nothing(probes: dict[str, Any], said: str) -> None:
    assert said in "\n".join(probed(**probes))


def test_names_are_unique_among_containers_and_init_containers() -> None:
    main = {"name": "main", "image": "veil.dev/busybox:1"}
    template = {"containers": [main], "initContainers": [main, {**main, "name": "first"}, {**main, "name": "first"}]}
    found = "\n".join(problems(workload(template=template)))
    assert 'initContainers[0].name: "main" is the name of a container, too' in found
    assert 'initContainers[2].name: "first" is there twice' in found
    many = [{**main, "name": f"i{number}"} for number in range(31)]
    template = {"containers": [main, {**main, "name": "other"}], "initContainers": many}
    assert problems(workload(template=template)) == [
        f"spec.template.initContainers: more than CONTAINERS_MAX={CONTAINERS_MAX} with the containers"
    ]


def test_an_init_container_has_no_resources_of_its_own() -> None:
    first = {"name": "first", "image": "veil.dev/busybox:1", "resources": {"requests": {"cpu": 1}}}
    template = container()["spec"]["template"] | {"initContainers": [first]}
    assert "initContainers[0].resources: unknown field" in "\n".join(problems(workload(template=template)))


def test_a_grace_period_is_an_hour_at_most() -> None:
    template = container()["spec"]["template"] | {"terminationGracePeriodSeconds": 3601}
    assert "must be at most 3600" in "\n".join(problems(workload(template=template)))


def with_volumes(*volumes: dict[str, Any], mounts: list[dict[str, Any]] | None = None, **spec: Any) -> str:
    main = {"name": "main", "image": "veil.dev/busybox:1", "volumeMounts": mounts or []}
    return "\n".join(problems(workload(template={"containers": [main], "volumes": list(volumes)}, **spec)))


FILES = {"files": {"a.conf": "x = 1\n"}}


def with_ports(*ports: dict[str, Any], **template: Any) -> str:
    obj = container(ports=list(ports))
    obj["spec"]["template"] |= template
    return "\n".join(problems(obj))


def test_ports_are_taken() -> None:
    assert with_ports({"containerPort": 80}, {"containerPort": 53, "hostPort": 53, "protocol": "UDP"}) == ""
    assert with_ports({"containerPort": 80, "name": "http"}, network="bridge") == ""
    assert with_ports({"containerPort": 80, "hostPort": 80}, hostNetwork=True) == ""
    assert with_ports({"containerPort": 53, "hostPort": 53}, {"containerPort": 53, "hostPort": 53, "protocol": "UDP"}) == ""


@pytest.mark.parametrize(
    ("ports", "template", "said"),
    [
        ([{"containerPort": 0}], {}, "ports[0].containerPort"),
        ([{"containerPort": 1, "hostPort": 9}, {"containerPort": 2, "hostPort": 9}], {}, "9/TCP is there twice"),
        ([{"containerPort": 80, "hostPort": 81}], {"hostNetwork": True}, "must be the containerPort"),
        ([{"containerPort": 80}], {"network": "none"}, "nobody could reach the containers' ports"),
        ([], {"network": "bridge", "hostNetwork": True}, "hostNetwork is set: remove one of them"),
        ([], {"network": "host"}, "network"),
    ],
)
def test_networks_that_mean_nothing(ports: list[dict[str, Any]], template: dict[str, Any], said: str) -> None:
    assert said in with_ports(*ports, **template)


def test_volumes_are_taken() -> None:
    volumes: list[dict[str, Any]] = [
        {"name": "scratch", "emptyDir": {}},
        {"name": "fast", "emptyDir": {"medium": "Memory"}},
        {"name": "conf", "config": FILES},
        {"name": "key", "secret": FILES},
        {"name": "data", "hostPath": {"path": "/srv/data"}},
    ]
    mounts = [{"name": volume["name"], "mountPath": f"/mnt/{volume['name']}"} for volume in volumes]
    assert with_volumes(*volumes, mounts=mounts, confidential=True) == ""


def with_login(content: str, name: str = "login") -> list[str]:
    volumes = [{"name": "login", "secret": {"files": {"config.json": content}}}, {"name": "other", "secret": FILES}]
    template = {**workload()["spec"]["template"], "volumes": volumes, "imagePullSecrets": [{"name": name}]}
    return problems(workload(template=template, confidential=True))


def test_a_login_for_registries_is_a_secret_as_docker_writes_it() -> None:
    assert with_login('{"auths": {"registry.test": {"auth": "YTpi"}}}') == []
    assert "is not as docker login writes it" in with_login("user:password")[0]
    assert "is not as docker login writes it" in with_login("[]")[0]
    for name in ("other", "none"):
        assert "must name a volume with a secret that has the file config.json" in with_login('{"auths": {}}', name)[0]


def test_a_secret_needs_a_sealed_template() -> None:
    assert "volumes[0].secret: would be published with the template: set spec.confidential" in with_volumes(
        {"name": "key", "secret": FILES}
    )


@pytest.mark.parametrize(
    ("volume", "mount", "said"),
    [
        ({"name": "a"}, None, "needs exactly one of emptyDir, config, secret, hostPath"),
        ({"name": "a", "emptyDir": {}, "config": FILES}, None, "needs exactly one of"),
        ({"name": "a", "config": {"files": {"../x": ""}}}, None, "is no file name"),
        ({"name": "a", "config": {"files": {".hidden": ""}}}, None, "is no file name"),
        ({"name": "a", "config": {"files": {"x": 1}}}, None, "must be a string"),
        ({"name": "a", "hostPath": {"path": "/srv/../etc"}}, None, 'must not have ".." in it'),
        ({"name": "a", "emptyDir": {}}, {"name": "b", "mountPath": "/x"}, 'there is no volume "b"'),
        ({"name": "a", "emptyDir": {}}, {"name": "a", "mountPath": "x/y"}, "must be an absolute path"),
        ({"name": "a", "emptyDir": {}}, {"name": "a", "mountPath": "/x/../.."}, 'must not have ".."'),
        ({"name": "a", "emptyDir": {}}, {"name": "a", "mountPath": "/proc/sys"}, "nor be below /proc, /sys or /dev"),
        ({"name": "a", "emptyDir": {}}, {"name": "a", "mountPath": "//"}, "nor be below"),
    ],
)
def test_volumes_that_mean_nothing(volume: dict[str, Any], mount: dict[str, Any] | None, said: str) -> None:
    assert said in with_volumes(volume, mounts=[mount] if mount else [])


def test_two_volumes_in_one_place() -> None:
    mounts = [{"name": "a", "mountPath": "/x"}, {"name": "a", "mountPath": "/x/"}]
    assert "volumeMounts[1].mountPath: is the place of another volume" in with_volumes(
        {"name": "a", "emptyDir": {}}, mounts=mounts
    )
