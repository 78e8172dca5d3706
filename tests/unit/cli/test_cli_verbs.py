"""`veil` against a real server on a unix socket: what it prints, where, and its exit codes."""

import asyncio
import io
import json
import sys
from pathlib import Path

import pytest
import yaml
from cli_ran import Veil

from veil.api.fake import FakeNode, a_node, a_workload, an_instance
from veil.cli import cordon
from veil.errors import ChainUnavailable, Conflict, DeadlineExceeded, InvalidInput


@pytest.fixture
def hello(tmp_path: Path) -> Path:
    path = tmp_path / "hello.yaml"
    path.write_text(yaml.safe_dump(a_workload()))
    return path


async def test_apply_says_created_then_unchanged_then_configured(veil: Veil, hello: Path) -> None:
    assert await veil("apply", "-f", str(hello)) == (0, "workload.veil.dev/hello created\n", "")
    assert (await veil("apply", "-f", str(hello))).out == "workload.veil.dev/hello unchanged\n"
    hello.write_text(yaml.safe_dump(a_workload(replicas=5)))
    assert (await veil("apply", "-f", str(hello))).out == "workload.veil.dev/hello configured\n"


async def test_apply_takes_directories_and_standard_input(veil: Veil, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "manifests"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.yaml").write_text(yaml.safe_dump_all([a_workload("one"), a_workload("two")]))
    (folder / "notes.txt").write_text("no manifest")
    (folder / "deep" / "b.yml").write_text(yaml.safe_dump(a_workload("three")))
    assert (await veil("apply", "-f", str(folder))).out.count("created") == 2
    assert (await veil("apply", "-R", "-f", str(folder))).out.count("created") == 1
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(yaml.safe_dump(a_workload("four")).encode())))
    assert (await veil("apply", "-f", "-")).out == "workload.veil.dev/four created\n"


async def test_a_wrong_manifest_is_told_line_by_line_and_nothing_is_sent(
    veil: Veil, served: FakeNode, tmp_path: Path, hello: Path
) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(
        "apiVersion: veil.dev/v1alpha1\nkind: Workload\nmetadata: {name: bad}\nspec:\n  repicas: 2\n"
        "  template:\n    containers:\n    - {name: a, image: b, resources: {requests: {cpu: lots}}}\n"
    )
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [\n")
    code, out, err = await veil("apply", "-f", str(hello), "-f", str(bad), "-f", str(broken))
    assert (code, out) == (1, "")
    assert f"error: {bad}:5: spec.repicas: unknown field, did you mean replicas?" in err
    assert f"error: {bad}:8: spec.template.containers[0].resources.requests.cpu: " in err
    assert f"error: {broken}:2: " in err
    assert "hint: " in err
    assert served.writer.applied == []


async def test_dry_runs_send_nothing(veil: Veil, served: FakeNode, hello: Path) -> None:
    assert (await veil("apply", "--dry-run", "-f", str(hello))).out == "workload.veil.dev/hello created (dry run)\n"
    assert (await veil("apply", "--dry-run=client", "-f", str(hello))).out == "workload.veil.dev/hello valid (dry run)\n"
    assert (await veil("apply", "--dry-run=client", "-o", "name", "-f", str(hello))).out == "workload.veil.dev/hello\n"
    assert json.loads((await veil("apply", "--dry-run=client", "-o", "json", "-f", str(hello))).out)["kind"] == "Workload"
    assert served.writer.applied == []
    assert served.store.find("Workload", "default", "hello") is None


async def test_a_field_of_somebody_else_says_how_to_take_it_over(veil: Veil, served: FakeNode, hello: Path) -> None:
    served.writer.faults.append(Conflict("Apply failed with 1 conflict"))
    code, _, err = await veil("apply", "-f", str(hello))
    assert code == 1
    assert "--force-conflicts" in err


async def test_a_part_that_is_down_is_exit_code_2_with_what_to_do(veil: Veil, served: FakeNode, hello: Path) -> None:
    served.writer.faults.append(ChainUnavailable("no RPC endpoint answers", hint="start the chain"))
    assert await veil("apply", "-f", str(hello)) == (2, "", "error: no RPC endpoint answers\nhint: start the chain\n")
    await served.server.close()
    code, _, err = await veil("get", "wl")
    assert code == 2
    assert "error: the node's API at unix://" in err
    assert "hint: is the node running?" in err


async def test_without_a_kubeconfig_it_says_how_to_get_one(veil: Veil, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEIL_KUBECONFIG", str(tmp_path / "none"))
    code, _, err = await veil("get", "wl")
    assert code == 1
    assert "veil dev up" in err


@pytest.mark.parametrize("arguments", [["get"], ["get", "nonsense"], ["frobnicate"], ["apply"], ["wait", "wl/a", "--for=x"]])
async def test_wrong_command_lines_are_exit_code_1_with_a_hint(veil: Veil, arguments: list[str]) -> None:
    code, out, err = await veil(*arguments)
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert "hint: " in err


async def test_get_prints_columns_names_json_and_yaml(veil: Veil, served: FakeNode, hello: Path) -> None:
    await veil("apply", "-f", str(hello))
    served.store.put(an_instance(node="n2", reason="Started"))
    out = (await veil("get", "wl")).out
    assert out.splitlines()[0].split() == ["NAME", "READY", "PLACED", "REASON", "AGE"]
    assert out.splitlines()[1].split()[:3] == ["hello", "0/2", "Unknown"]
    assert "CONFIDENTIAL" in (await veil("get", "wl", "-o", "wide")).out
    assert (await veil("get", "wl,inst", "-o", "name")).out == "workload.veil.dev/hello\ninstance.veil.dev/hello-1-0\n"
    assert json.loads((await veil("get", "wl/hello", "-o", "json")).out)["metadata"]["name"] == "hello"
    assert len(yaml.safe_load((await veil("get", "inst", "-o", "yaml")).out)["items"]) == 1
    assert (await veil("get", "inst", "-A")).out.splitlines()[1].split()[:4] == ["default", "hello-1-0", "Running", "true"]
    assert (await veil("get", "wl", "-l", "app=other")) == (0, "", "no workloads in namespace default\n")
    code, _, err = await veil("get", "wl", "nothere")
    assert (code, 'error: workloads.veil.dev "nothere" not found' in err) == (1, True)


async def test_describe_shows_conditions_and_instances(veil: Veil, served: FakeNode, hello: Path) -> None:
    await veil("apply", "-f", str(hello))
    condition = {"type": "Placed", "status": "False", "reason": "NoNodeFits", "message": "no node has room"}
    live = served.store.get("Workload", "default", "hello")
    served.store.put({**live, "status": {"conditions": [condition]}})
    served.store.put(an_instance(node="n2", placement={"shard": 3, "sequence": 7, "leaf": "ab", "root": "cd"}))
    out = (await veil("describe", "wl", "hello")).out
    assert "NoNodeFits" in out
    assert "no node has room" in out
    assert "shard 3, append 7" in out


async def test_wait_returns_when_the_condition_holds(veil: Veil, served: FakeNode, hello: Path) -> None:
    await veil("apply", "-f", str(hello))
    waiting = asyncio.create_task(veil("wait", "wl/hello", "--for=condition=Available", "--timeout=10s"))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    live = served.store.get("Workload", "default", "hello")
    served.store.put({**live, "status": {"conditions": [{"type": "Available", "status": "True"}]}})
    assert await waiting == (0, "workload.veil.dev/hello condition met\n", "")


async def test_wait_says_why_when_time_is_over(veil: Veil, served: FakeNode, hello: Path) -> None:
    await veil("apply", "-f", str(hello))
    live = served.store.get("Workload", "default", "hello")
    status = {"conditions": [{"type": "Placed", "status": "False", "reason": "NoNodeFits", "message": "no room"}]}
    served.store.put({**live, "status": status})
    code, _, err = await veil("wait", "wl/hello", "--for=condition=Placed", "--timeout=100ms")
    assert code == 2
    assert "Placed is not True (NoNodeFits: no room)" in err
    _, _, err = await veil("wait", "wl/hello", "--for=condition=Ready", "--timeout=50ms")
    assert "Ready is not True (it has no such condition, only Placed)" in err


async def test_wait_ignores_conditions_of_an_older_generation(veil: Veil, served: FakeNode, hello: Path) -> None:
    await veil("apply", "-f", str(hello))
    live = served.store.get("Workload", "default", "hello")
    status = {"conditions": [{"type": "Available", "status": "True", "observedGeneration": 0}]}
    served.store.put({**live, "status": status})
    assert (await veil("wait", "wl/hello", "--for=condition=Available", "--timeout=100ms")).code == 2


async def test_delete_waits_until_the_instances_are_gone(veil: Veil, served: FakeNode, hello: Path) -> None:
    await veil("apply", "-f", str(hello))
    served.store.put(an_instance())
    deleting = asyncio.create_task(veil("delete", "-f", str(hello)))
    async with asyncio.timeout(10):
        while served.store.find("Workload", "default", "hello") is not None:
            await asyncio.sleep(0.01)
    assert not deleting.done()
    served.store.delete("Instance", "default", "hello-1-0")
    assert await deleting == (0, "workload.veil.dev/hello deleted\n", "")
    assert (await veil("delete", "wl", "hello")).code == 1
    assert (await veil("delete", "wl", "hello", "--ignore-not-found")).code == 0


async def test_delete_says_what_is_left_when_time_is_over(veil: Veil, served: FakeNode, hello: Path) -> None:
    await veil("apply", "-f", str(hello))
    served.store.put(an_instance())
    code, _, err = await veil("delete", "wl", "hello", "--timeout", "10ms")
    assert code == 2
    assert "still there: hello-1-0" in err


async def test_logs_of_an_instance_and_of_all_replicas(veil: Veil, served: FakeNode, hello: Path) -> None:
    await veil("apply", "-f", str(hello))
    for replica in (0, 1):
        served.store.put(an_instance(f"hello-1-{replica}"))
        served.logs.lines[f"hello-1-{replica}"] = [f"line {replica}a\n".encode(), f"line {replica}b\n".encode()]
    assert (await veil("logs", "hello-1-0")).out == "line 0a\nline 0b\n"
    assert (await veil("logs", "wl/hello", "--tail", "1")).out == "[hello-1-0] line 0b\n[hello-1-1] line 1b\n"
    assert (await veil("logs", "hello-1-1", "--since", "2m")).code == 0
    assert served.logs.asked[-1]["since"] == 120.0
    assert "no instance or workload nope" in (await veil("logs", "nope")).err


async def test_a_replica_without_a_log_does_not_hide_the_others(veil: Veil, served: FakeNode, hello: Path) -> None:
    await veil("apply", "-f", str(hello))
    for replica in (0, 1):
        served.store.put(an_instance(f"hello-1-{replica}"))
    assert (await veil("logs", "wl/hello")).code == 1
    served.logs.lines["hello-1-1"] = [b"here\n"]
    code, out, err = await veil("logs", "wl/hello")
    assert (code, out) == (0, "[hello-1-1] here\n")
    assert "error: hello-1-0 has no log yet" in err


async def test_follow_shows_all_replicas_until_their_logs_end(veil: Veil, served: FakeNode, hello: Path) -> None:
    await veil("apply", "-f", str(hello))
    for replica in (0, 1):
        served.store.put(an_instance(f"hello-1-{replica}"))
        served.logs.lines[f"hello-1-{replica}"] = [f"line {replica}".encode()]
    served.logs.finished = True
    out = (await veil("logs", "-f", "wl/hello")).out
    assert sorted(out.splitlines()) == ["[hello-1-0] line 0", "[hello-1-1] line 1"]


async def test_a_watch_prints_what_changes(veil: Veil, served: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    served.store.put(an_instance(node="n1"))
    watching = asyncio.create_task(veil("get", "inst", "-w"))
    await asyncio.sleep(0.15)
    served.store.put(an_instance(phase="Failed", node="n1"))
    served.store.delete("Instance", "default", "hello-1-0")
    await asyncio.sleep(0.15)
    await served.server.close()
    code, out, err = await watching
    assert (code, "does not answer" in err) == (2, True)
    rows = [line.split() for line in out.splitlines()[1:]]
    assert [(row[1], row[-1]) for row in rows][1:] == [("Failed", rows[1][-1]), ("Failed", "(deleted)")]


async def test_a_watch_that_begins_with_nothing_prints_the_header_before_the_first(veil: Veil, served: FakeNode) -> None:
    watching = asyncio.create_task(veil("get", "inst", "-w"))
    await asyncio.sleep(0.15)
    served.store.put(an_instance(node="n1"))
    served.store.put(an_instance(phase="Failed", node="n1"))
    await asyncio.sleep(0.15)
    await served.server.close()
    _, out, _ = await watching
    assert [line.split()[0] for line in out.splitlines()] == ["NAME", "hello-1-0", "hello-1-0"]


async def test_explain_needs_no_node(veil: Veil, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEIL_KUBECONFIG", "/nonexistent")
    out = (await veil("explain", "wl.spec.template.containers")).out
    assert "image <string> -required-" in out
    code, _, err = await veil("explain", "wl.spec.nope")
    assert (code, "it has: replicas" in err) == (1, True)


async def test_kubeconfig_prints_and_writes_it(veil: Veil, tmp_path: Path) -> None:
    printed = yaml.safe_load((await veil("kubeconfig")).out)
    assert printed["clusters"][0]["cluster"]["server"].startswith("unix://")
    target = tmp_path / "kube"
    await veil("kubeconfig", "--write", str(target))
    assert yaml.safe_load(target.read_text()) == printed
    assert target.stat().st_mode & 0o777 == 0o600


async def test_version_names_both_sides(veil: Veil) -> None:
    out = (await veil("version")).out
    assert out.startswith("veil 0.")
    assert "node v1.32" in out


# nodes


def left(state: str, reason: str = "", name: str = "hello-1-0") -> dict[str, str]:
    return {"namespace": "default", "name": name, "state": state, "reason": reason}


async def test_drain_says_what_it_waits_for(served: FakeNode, veil: Veil, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cordon, "POLL_S", 0.001)
    served.store.put(a_node())
    moving = left("Moving", "NoNodeFits")
    served.drainer.left = [[left("Waiting"), left("Stopping", name="web-1-0")], [moving], [moving], []]
    ran = await veil("node", "drain", "node-1")
    assert (ran.code, ran.out) == (0, "node/node-1 cordoned\nnode/node-1 drained\n")
    assert ran.err.splitlines() == [
        "waiting for default/hello-1-0: it waits for its turn",
        "waiting for default/web-1-0: it is stopping",
        "default/web-1-0 has left",
        "waiting for default/hello-1-0: it waits for another node to take it (NoNodeFits)",
    ]
    assert served.writer.cordoned == [("node-1", True)]


async def test_drain_gives_up_and_says_why(served: FakeNode, veil: Veil) -> None:
    served.store.put(a_node(cordoned=True))
    served.drainer.left = [[left("Moving", "NoNodeFits")]] * 9
    ran = await veil("node", "drain", "node-1", "--timeout", "0s")
    assert ran.code == DeadlineExceeded.exit_code
    assert "node/node-1 already cordoned" in ran.out
    assert "after 0 s 1 replicas are still on node-1: default/hello-1-0" in ran.err
    assert "uncordon" in ran.err


async def test_cordon_and_uncordon(served: FakeNode, veil: Veil) -> None:
    served.store.put(a_node())
    assert (await veil("node", "cordon", "node-1")).out == "node/node-1 cordoned\n"
    assert (await veil("node", "cordon", "node-1")).out == "node/node-1 already cordoned\n"
    assert (await veil("node", "uncordon", "node-1", "--dir", str(served.socket.parent))).out == "node/node-1 uncordoned\n"
    assert (await veil("node", "cordon", "node-9")).code == 1
    assert "--dir" in (await veil("node", "cordon", "node-1", "--keystore", "admin.key")).err


# commands in containers


async def test_exec_ends_as_the_command_does(
    served: FakeNode, veil: Veil, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    served.store.put(an_instance())
    ran = await veil("exec", "hello-1-0", "-c", "main", "--", "cat", "-n")
    assert (ran.code, ran.out) == (7, "")
    assert served.execs.opened[-1][:4] == ("hello-1-0", "main", ("cat", "-n"), False)
    given = tmp_path / "input"
    given.write_bytes(b"some words\n" * 20_000)
    with given.open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        ran = await veil("exec", "-i", "hello-1-0", "--", "tr", "a-z", "A-Z")
    assert (ran.code, ran.out) == (7, "SOME WORDS\n" * 20_000)
    with given.open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        ran = await veil("exec", "-it", "hello-1-0", "--", "sh")
    assert "no terminal" in ran.err
    assert served.execs.opened[-1][3] is False


async def test_exec_says_what_is_wrong(served: FakeNode, veil: Veil) -> None:
    served.store.put(an_instance())
    served.execs.faults.append(InvalidInput("which container? There are a, b", hint="name one with --container"))
    ran = await veil("exec", "hello-1-0", "--", "sh")
    assert (ran.code, "There are a, b" in ran.err, "--container" in ran.err) == (1, True, True)
    ran = await veil("exec", "nobody-1-0", "--", "sh")
    assert (ran.code, "not found" in ran.err) == (1, True)
