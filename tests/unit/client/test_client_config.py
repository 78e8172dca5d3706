"""Kubeconfigs, kinds, answers: what the clients are made of."""

from pathlib import Path

import pytest
import yaml

from veil.client.answers import change_of, error_of
from veil.client.kinds import CORE_NAMESPACES, INSTANCES, NODES, WORKLOADS, find, of_object
from veil.client.kubeconfig import KubeConfig, config_path, load, write
from veil.client.requests import listing, logs, watching
from veil.errors import ConfigInvalid, Conflict, Forbidden, LimitExceeded, NodeUnavailable, NotFound, VeilError
from veil.types import Secret


def config(**changes: object) -> KubeConfig:
    whole: dict[str, object] = {"server": "https://127.0.0.1:1", "ca_pem": "PEM", "token": Secret(b"t0ken"), "namespace": "team"}
    return KubeConfig(**(whole | changes))  # type: ignore[arg-type]


def test_what_is_written_is_read_again_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "config"
    write(path, {"one": config(), "two": config(server="unix:///run/veil.sock", token=None)}, "one")
    assert path.stat().st_mode & 0o777 == 0o600
    read = load(path)
    assert (read.server, read.ca_pem, read.namespace, read.context) == ("https://127.0.0.1:1", "PEM", "team", "one")
    assert read.token == Secret(b"t0ken")
    other = load(path, "two")
    assert (other.socket, other.token) == (Path("/run/veil.sock"), None)
    assert "t0ken" not in repr(read)


def test_the_variable_names_the_file(tmp_path: Path) -> None:
    assert config_path({"VEIL_KUBECONFIG": str(tmp_path / "x")}) == tmp_path / "x"
    assert config_path({}).name == "config"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no cluster is known"),
        ("a: [", "not a kubeconfig"),
        ("[]", "not a kubeconfig"),
        ("current-context: x", "contexts has no 'x'"),
        ("{current-context: x, contexts: [{name: x, context: {cluster: y}}]}", "clusters has no 'y'"),
        (
            "{current-context: x, contexts: [{name: x, context: {cluster: y}}], clusters: [{name: y, cluster: {server: 'http://a'}}]}",
            "is not https",
        ),
        (
            "{current-context: x, contexts: [{name: x, context: {cluster: y}}], "
            "clusters: [{name: y, cluster: {server: 'https://a', certificate-authority-data: '?'}}]}",
            "cannot be read",
        ),
    ],
)
def test_a_damaged_file_is_said_so_with_a_hint(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "config"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigInvalid, match=said) as caught:
        load(path)
    assert caught.value.hint


def test_a_certificate_authority_can_be_a_file_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "config"
    write(path, {"one": config()}, "one")
    document = yaml.safe_load(path.read_text())
    document["clusters"][0]["cluster"] = {"server": "https://a", "certificate-authority": "ca.pem"}
    path.write_text(yaml.safe_dump(document))
    (tmp_path / "ca.pem").write_text("BESIDE")
    assert load(path).ca_pem == "BESIDE"


@pytest.mark.parametrize("word", ["wl", "workload", "Workloads", "workloads.veil.dev", "WL"])
def test_kinds_are_found_by_all_their_names(word: str) -> None:
    assert find(word) is WORKLOADS


def test_an_unknown_kind_lists_the_known_ones() -> None:
    with pytest.raises(ConfigInvalid) as caught:
        find("deployment")
    assert "workloads (wl)" in caught.value.hint
    with pytest.raises(ConfigInvalid):
        of_object({"apiVersion": "apps/v1", "kind": "Deployment"})
    assert of_object({"apiVersion": "v1", "kind": "Namespace"}) is CORE_NAMESPACES


def test_paths_and_queries() -> None:
    assert NODES.path("ignored", "n/1") == "/apis/veil.dev/v1alpha1/nodes/n%2F1"
    assert listing(WORKLOADS, "a", labels="x in (1,2)").target.endswith("/namespaces/a/workloads?labelSelector=x+in+%281%2C2%29")
    assert watching(WORKLOADS, since="7", bookmarks=True, timeout_s=0.2).query == {
        "watch": "true",
        "resourceVersion": "7",
        "allowWatchBookmarks": "true",
        "timeoutSeconds": "1",
    }
    assert logs(INSTANCES, "i", "a", tail_lines=0).query == {"tailLines": "0"}


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (404, b"", NotFound),
        (401, b'{"message": "Unauthorized", "reason": "Unauthorized", "code": 401}', Forbidden),
        (413, b"<html>", LimitExceeded),
        (503, b'{"reason": "SomethingNew", "code": 503, "message": "m"}', NodeUnavailable),
        (500, b"[]", VeilError),
        (500, b'{"message": "m"}', VeilError),
    ],
)
def test_answers_of_others_are_told_apart_by_their_code(code: int, text: bytes, kind: type[VeilError]) -> None:
    assert type(error_of(code, text)) is kind


def test_an_error_line_of_a_watch_is_raised() -> None:
    with pytest.raises(Conflict):
        change_of(b'{"type":"ERROR","object":{"code":410,"reason":"Expired","message":"old"}}')
