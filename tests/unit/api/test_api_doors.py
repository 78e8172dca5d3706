"""Tokens, certificates, sockets, logs: the doors of the API."""

import asyncio
import socket
import ssl
from datetime import datetime
from pathlib import Path

import pytest
from cryptography import x509

from veil.api import logs as api_logs
from veil.api.access import ensure_token, review
from veil.api.fake import FakeNode, a_node, an_instance
from veil.api.kinds import INSTANCE, NODE, POD
from veil.api.ports import Caller
from veil.api.rights import check_cordon, check_delete, check_update
from veil.api.server import bind_private
from veil.api.status import Rejected
from veil.api.tls import SERVER_DAYS, ensure_certificates, server_context
from veil.client import requests
from veil.client.api import ApiClient
from veil.client.blocking import BlockingClient, token_config
from veil.client.kinds import CORE_NODES, INSTANCES, NODES, PLACEMENTS, PODS, WORKLOADS
from veil.client.requests import Call
from veil.errors import ConfigInvalid, Forbidden, InvalidInput, NodeUnavailable, NotFound, Untrusted, VeilError
from veil.types import SystemClock


class FrozenClock:
    def __init__(self, days: float) -> None:
        self.days = days

    def now_s(self) -> float:
        return 1_800_000_000 + self.days * 86400

    def monotonic_s(self) -> float:
        return 0.0


# certificates


def ends(path: Path) -> datetime:
    return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc


def test_certificates_are_kept_and_renewed_in_time_under_the_same_authority(tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path, ["node.example"], FrozenClock(0))
    before, authority = files.certificate.read_bytes(), files.ca_pem
    assert ensure_certificates(tmp_path, ["node.example"], FrozenClock(300)).certificate.read_bytes() == before
    renewed = ensure_certificates(tmp_path, ["node.example"], FrozenClock(SERVER_DAYS - 10))
    assert renewed.certificate.read_bytes() != before
    assert (renewed.ca_pem, ends(renewed.certificate) > ends(renewed.ca)) == (authority, False)


def test_another_host_gets_another_certificate(tmp_path: Path) -> None:
    before = ensure_certificates(tmp_path, ["a.example"], FrozenClock(0)).certificate.read_bytes()
    after = ensure_certificates(tmp_path, ["a.example", "10.0.0.7"], FrozenClock(0)).certificate
    assert after.read_bytes() != before
    assert b"CERTIFICATE" in after.read_bytes()


def test_keys_can_be_read_by_their_owner_only(tmp_path: Path) -> None:
    ensure_certificates(tmp_path / "tls", [], FrozenClock(0))
    ensure_token(tmp_path / "token")
    for path in (tmp_path / "tls" / "ca.key", tmp_path / "tls" / "server.key", tmp_path / "token"):
        assert path.stat().st_mode & 0o777 == 0o600


def test_damaged_certificates_are_said_so(tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path, [], FrozenClock(0))
    files.certificate.write_text("nonsense")
    with pytest.raises(ConfigInvalid, match="certificates"):
        ensure_certificates(tmp_path, [], FrozenClock(0))


def test_a_token_stays_and_a_short_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    token = ensure_token(path)
    assert ensure_token(path) == token
    assert token.reveal().decode() not in repr(token)
    path.write_text("short")
    with pytest.raises(ConfigInvalid, match="too short"):
        ensure_token(path)


# TLS and the token


async def test_over_tls_the_token_and_the_authority_must_be_right(served: FakeNode, tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path / "tls", [], SystemClock())
    other = ensure_certificates(tmp_path / "other", [], SystemClock())
    token = ensure_token(tmp_path / "token")
    port = await served.server.listen_tls("127.0.0.1", 0, server_context(files), token)
    server = f"https://127.0.0.1:{port}"
    good = token_config(server, files.ca_pem, token.reveal().decode())
    wrong_token = token_config(server, files.ca_pem, "0" * 64)
    wrong_ca = token_config(server, other.ca_pem, token.reveal().decode())
    async with ApiClient(good) as client:
        assert (await client.list(WORKLOADS))["items"] == []
    async with ApiClient(wrong_token) as client:
        for path in ("/version", "/api", "/apis/veil.dev/v1alpha1/workloads", "/openapi/v3"):
            with pytest.raises(Forbidden):
                await client.send(Call(method="GET", path=path))
    async with ApiClient(wrong_ca) as client:
        with pytest.raises(Untrusted, match="certificate"):
            await client.list(WORKLOADS)
    with BlockingClient(wrong_ca) as blocking, pytest.raises(Untrusted, match="certificate"):
        await asyncio.to_thread(blocking.list, WORKLOADS)
    with BlockingClient(good) as blocking:
        assert (await asyncio.to_thread(blocking.list, WORKLOADS))["items"] == []


async def test_health_needs_no_token_and_old_tls_is_refused(served: FakeNode, tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path / "tls", [], SystemClock())
    port = await served.server.listen_tls("127.0.0.1", 0, server_context(files), ensure_token(tmp_path / "token"))
    context = ssl.create_default_context(cafile=str(files.ca))
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert (await reader.read()).endswith(b"ok")
    writer.close()
    assert server_context(files).minimum_version is ssl.TLSVersion.TLSv1_2


async def test_a_port_in_use_is_a_configuration_error(served: FakeNode, tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path / "tls", [], SystemClock())
    token = ensure_token(tmp_path / "token")
    port = await served.server.listen_tls("127.0.0.1", 0, server_context(files), token)
    with pytest.raises(ConfigInvalid, match="cannot listen"):
        await served.server.listen_tls("127.0.0.1", port, server_context(files), token)


# sockets


def test_a_socket_left_behind_is_replaced_and_a_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "s"
    bind_private(path).close()
    again = bind_private(path)
    assert path.stat().st_mode & 0o777 == 0o600
    again.close()
    other = tmp_path / "file"
    other.write_text("keep")
    with pytest.raises(ConfigInvalid):
        bind_private(other)
    assert other.read_text() == "keep"


def test_a_path_too_long_for_a_socket_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="SOCKET_PATH_MAX_BYTES"):
        bind_private(tmp_path / ("x" * 120))


def test_nobody_gets_in_before_the_mode_is_set(tmp_path: Path) -> None:
    bound = bind_private(tmp_path / "s")
    client = socket.socket(socket.AF_UNIX)
    with pytest.raises(ConnectionRefusedError):
        client.connect(str(tmp_path / "s"))
    client.close()
    bound.close()


async def test_closing_removes_the_sockets(served: FakeNode) -> None:
    await served.server.close()
    assert not served.socket.exists()
    async with served.client() as client:
        with pytest.raises(NodeUnavailable, match="does not answer"):
            await client.list(WORKLOADS)


# logs


async def read(served: FakeNode, resource: object = INSTANCES, **options: object) -> bytes:
    async with served.client() as client:
        return b"".join([piece async for piece in client.logs(resource, "hello-1-0", "default", **options)])  # type: ignore[arg-type]


async def test_logs_of_instances_and_pods(served: FakeNode) -> None:
    served.store.put(an_instance())
    served.logs.lines["hello-1-0"] = [b"one\n", b"two\n", b"three\n"]
    assert await read(served) == await read(served, PODS) == b"one\ntwo\nthree\n"
    assert await read(served, tail_lines=1, since_s=5, container="main") == b"three\n"
    assert await read(served, tail_lines=0) == b""
    await read(served, timestamps=True, previous=True)
    assert {"timestamps": True, "previous": True}.items() <= served.logs.asked[-1].items()
    assert served.logs.asked[2] == {"name": "hello-1-0", "container": "main", "follow": False, "tail": 1, "since": 5.0}


async def test_errors_before_the_first_piece_are_errors(served: FakeNode) -> None:
    with pytest.raises(NotFound, match="hello-1-0"):
        await read(served)
    served.store.put(an_instance())
    with pytest.raises(NotFound, match="no log yet"):
        await read(served)


async def test_a_follower_gets_what_comes_and_is_let_go_at_shutdown(served: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_logs, "FIRST_PIECE_WAIT_S", 0.01)
    served.store.put(an_instance())
    served.logs.lines["hello-1-0"] = []
    pieces: list[bytes] = []

    async def follow() -> None:
        async with served.client() as client:
            async for piece in client.logs(INSTANCES, "hello-1-0", "default", follow=True):
                pieces.append(piece)

    following = asyncio.create_task(follow())
    await asyncio.sleep(0.05)
    served.logs.lines["hello-1-0"].append(b"late\n")
    served.logs.more.set()
    async with asyncio.timeout(2):
        while not pieces:
            await asyncio.sleep(0.01)
        await served.server.close()
        await following
    assert pieces == [b"late\n"]


@pytest.mark.parametrize("query", [{"tailLines": "x"}, {"sinceTime": "yesterday"}])
async def test_log_options_that_cannot_be_are_refused(served: FakeNode, query: dict[str, str]) -> None:
    served.store.put(an_instance())
    async with served.client() as client:
        with pytest.raises(InvalidInput):
            await client.send(Call(method="GET", path=INSTANCES.path("default", "hello-1-0", "log"), query=query))


# nodes


async def test_a_node_is_cordoned_under_either_name(served: FakeNode) -> None:
    served.store.put(a_node())
    async with served.client() as client:
        await client.patch(NODES, "node-1", {"spec": {"unschedulable": True}})
        assert (await client.get(CORE_NODES, "node-1"))["spec"] == {
            "unschedulable": True,
            "taints": [{"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}],
        }
        shown = await client.patch(CORE_NODES, "node-1", {"spec": {"unschedulable": None}})
        assert "unschedulable" not in shown["spec"]
        await client.patch(NODES, "node-1", {"spec": {"unschedulable": False}})
        with pytest.raises(Forbidden):
            await client.patch(NODES, "node-1", {"spec": {"taints": None}})
        with pytest.raises(Forbidden):
            await client.patch(CORE_NODES, "node-1", {"metadata": {"labels": {"disk": "ssd"}}})
    assert served.writer.cordoned == [("node-1", True), ("node-1", False)], "what is so already costs no transaction"


async def test_a_node_is_drained_by_people_only(served: FakeNode) -> None:
    served.store.put(a_node(cordoned=True))
    served.drainer.left.append([{"namespace": "default", "name": "hello-1-0", "state": "Moving", "reason": ""}])
    asked = requests.subresource(NODES, "node-1", "drain")
    async with served.client() as client, served.client(controllers=True) as controllers:
        assert (await client.send(asked))["left"][0]["name"] == "hello-1-0"
        with pytest.raises(Forbidden):
            await controllers.send(asked)
        with pytest.raises(NotFound):
            await client.send(requests.subresource(NODES, "node-9", "drain"))
        with pytest.raises(VeilError, match="does not allow this method"):
            await client.send(Call(method="GET", path=NODES.path("", "node-1", "drain")))
    assert served.drainer.asked == ["node-1"]


# rights


def test_a_refused_write_says_what_to_do_for_that_kind() -> None:
    with pytest.raises(Forbidden) as written:
        check_update(Caller(name="users"), NODE, status=True)
    assert "controllers" in written.value.message
    with pytest.raises(Forbidden) as labelled:
        check_cordon(a_node(), {**a_node(), "metadata": {"name": "n1", "labels": {"disk": "ssd"}}})
    assert "unschedulable" in labelled.value.hint
    with pytest.raises(Forbidden) as replica:
        check_update(Caller(name="users"), INSTANCE, status=False)
    assert "change the Workload" in replica.value.hint
    with pytest.raises(Rejected) as view:
        check_delete(Caller(name="users"), POD)
    assert "change the Workload" in view.value.hint


@pytest.mark.parametrize(
    ("group", "resource", "verb", "users", "controllers"),
    [
        ("veil.dev", "workloads", "create", True, True),
        ("veil.dev", "instances", "create", False, True),
        ("veil.dev", "instances", "get", True, True),
        ("veil.dev", "nodes", "delete", False, False),
        ("", "pods", "delete", False, False),
        ("", "namespaces", "create", True, True),
        ("", "secrets", "get", False, False),
        ("*", "*", "*", False, False),
    ],
)
def test_access_reviews_say_what_the_verbs_do(group: str, resource: str, verb: str, users: bool, controllers: bool) -> None:
    asked = {"spec": {"resourceAttributes": {"group": group, "resource": resource, "verb": verb}}}
    answers = [
        review(caller, asked)["status"]["allowed"]
        for caller in (Caller(name="users"), Caller(name="controllers", controllers=True))
    ]
    assert answers == [users, controllers]


async def test_reports_and_transcripts_are_for_people_and_not_for_controllers(tmp_path: Path) -> None:
    node = FakeNode(tmp_path)
    node.auditor.reports["3-7-0"] = {"verdict": "agreed"}
    node.auditor.transcripts["3-7-0"] = {"transcripts": []}
    await node.start()
    try:
        async with node.client() as people, node.client(controllers=True) as controllers:
            for subresource, said in (("audit", {"verdict": "agreed"}), ("transcript", {"transcripts": []})):
                call = requests.get(PLACEMENTS, "3-7-0", subresource=subresource)
                assert await people.send(call) == said
                with pytest.raises(Forbidden):
                    await controllers.send(call)
                with pytest.raises(NotFound):
                    await people.send(requests.get(PLACEMENTS, "3-8-0", subresource=subresource))
                with pytest.raises(NotFound):
                    await people.send(requests.get(WORKLOADS, "hello", "default", subresource=subresource))
    finally:
        await node.close()
