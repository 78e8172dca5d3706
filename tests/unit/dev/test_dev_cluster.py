"""What a development cluster remembers, which processes it ends, and what its verbs say when there is none."""

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from veil.cli.main import run
from veil.dev import up as up_module
from veil.dev.down import down
from veil.dev.layout import SOCKET_PATH_MAX_BYTES, ClusterRecord, Layout, NodeRecord, ProcessRecord
from veil.dev.processes import is_alive, record_of, spawn, started_ticks, stop
from veil.dev.status import show, status_of
from veil.dev.steps import Steps
from veil.dev.up import Plan
from veil.errors import ConfigInvalid, LimitExceeded, NotFound

Veil = pytest.CaptureFixture[str]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "c")
    layout.root.mkdir()
    return layout


@pytest.fixture
def started() -> Iterator[list[ProcessRecord]]:
    """Whatever is put in here is ended with the test."""
    records: list[ProcessRecord] = []
    yield records
    stop(records, grace_s=0)


def dead() -> ClusterRecord:
    """A cluster whose processes are gone; one of their pids is another process's now."""
    gone = [
        ProcessRecord(role="chain", pid=2**22 - 7, started_ticks=5),
        ProcessRecord(role="node-1/node", pid=os.getpid(), started_ticks=5),
    ]
    node = NodeRecord(name="node-1", peer_id="12D3KooWxxxxxxxxxxxxxxxxxxxxx", operator="0x11", directory="")
    return ClusterRecord(runtime="process", rpc_url="http://127.0.0.1:1", contract="0x22", nodes=[node], processes=gone)


def recorded(layout: Layout) -> ClusterRecord:
    record = dead()
    record.nodes[0].directory = str(layout.node("node-1"))
    layout.node("node-1").mkdir(parents=True)
    layout.save(record)
    return record


# the record


def test_the_record_comes_back_as_it_was(layout: Layout) -> None:
    assert layout.load() is None
    layout.save(dead())
    assert layout.load() == dead()
    assert [path.name for path in layout.root.iterdir()] == ["cluster.json"]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"nodes": [{"colour": 1}], "processes": []}', '{"nodes": [], "processes": []}']
)
def test_a_record_that_is_none_is_said_to_be(layout: Layout, text: str) -> None:
    layout.record.write_text(text)
    with pytest.raises(ConfigInvalid) as caught:
        layout.load()
    assert caught.value.hint


def test_a_directory_too_deep_for_sockets_is_refused_at_once() -> None:
    room = SOCKET_PATH_MAX_BYTES - len("/nodes/node-99/containerd/state/containerd.sock.ttrpc")
    Layout(Path("/" + "d" * (room - 1))).check()
    with pytest.raises(LimitExceeded) as caught:
        Layout(Path("/" + "d" * room)).check()
    assert "--dir" in caught.value.hint


async def test_a_directory_with_anything_in_it_is_not_taken(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Layout, "check", lambda self: None)
    plan, steps = Plan(nodes=1, runtime="process"), Steps()
    (layout.root / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigInvalid, match="not empty"):
        await up_module.up(layout, plan, steps)
    assert not layout.record.exists(), "or down would remove it all"
    layout.save(dead())
    with pytest.raises(ConfigInvalid, match="already"):
        await up_module.up(layout, plan, steps)


# processes


def test_a_process_is_known_by_its_start_time_too(started: list[ProcessRecord], tmp_path: Path) -> None:
    process = spawn("test", ["sleep", "60"], log=tmp_path / "logs" / "out")
    started.append(process)
    assert is_alive(process)
    reused = replace(process, started_ticks=process.started_ticks - 1)
    assert not is_alive(reused)
    stop([reused], grace_s=0)
    assert is_alive(process), "a pid that was given to another process is left alone"
    stop([process], grace_s=5)
    assert not is_alive(process)
    assert not is_alive(ProcessRecord(role="never", pid=process.pid, started_ticks=0))


def test_who_does_not_hear_is_killed_after_the_grace_and_is_gone_then(started: list[ProcessRecord], tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    deaf = spawn("test", ["sh", "-c", f"trap '' TERM; touch {ready}; while :; do sleep 0.05; done"], log=tmp_path / "out")
    started.append(deaf)
    while not ready.exists():
        time.sleep(0.01)
    began_s = time.monotonic()
    stop([deaf], grace_s=0.3)
    assert 0.3 <= time.monotonic() - began_s < 3
    assert started_ticks(deaf.pid) == 0


def test_who_hears_is_not_waited_for(started: list[ProcessRecord], tmp_path: Path) -> None:
    processes = [spawn(f"{n}", ["sleep", "60"], log=tmp_path / "out") for n in range(3)]
    started += processes
    began_s = time.monotonic()
    stop(processes)
    assert time.monotonic() - began_s < 3
    assert not any(is_alive(process) for process in processes)


def test_a_zombie_is_not_alive() -> None:
    child = subprocess.Popen(["sleep", "0"])
    try:
        while Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.01)
        assert started_ticks(child.pid) == 0
        assert not is_alive(record_of("test", child.pid))
    finally:
        child.wait()


def test_exit_codes_of_others_are_left_to_them(started: list[ProcessRecord], tmp_path: Path) -> None:
    mine = spawn("test", ["sleep", "60"], log=tmp_path / "out")
    started.append(mine)
    other = subprocess.Popen(["sh", "-c", "exit 7"])
    while started_ticks(other.pid):
        time.sleep(0.01)
    stop([mine], grace_s=5)
    assert other.wait() == 7


def test_settings_of_the_shell_do_not_reach_the_cluster(
    started: list[ProcessRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VEIL_NODE_NAME", "mine")
    out = tmp_path / "out"
    process = spawn("test", ["sh", "-c", "env; echo end; sleep 60"], log=out, env={"VEIL_OF_THE_CLUSTER": "1"})
    started.append(process)
    while "end" not in out.read_text():
        time.sleep(0.01)
    assert "VEIL_NODE_NAME" not in out.read_text()
    assert "VEIL_OF_THE_CLUSTER=1" in out.read_text()
    assert "PATH=" in out.read_text()


# status and down


def test_the_status_of_a_dead_cluster_shows_nothing_running(layout: Layout) -> None:
    recorded(layout)
    (layout.node("node-1") / "endpoint.json").write_text('{"api": "https://127.0.0.1:1", "pids": {"meshd": 99}}')
    state = status_of(layout)
    (node,) = state["nodes"]
    assert (state["chain"]["pid"], node["pids"], node["api"]) == (None, {}, "https://127.0.0.1:1")


def test_the_table_has_whole_addresses_on_a_narrow_terminal(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    recorded(layout)
    (layout.node("node-1") / "endpoint.json").write_text('{"api": "https://127.0.0.1:54321"}')
    show(status_of(layout))
    assert "https://127.0.0.1:54321" in capsys.readouterr().out


def test_the_end_of_up_names_the_kubeconfig_unless_it_is_the_default(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    layout.kubeconfig.write_text("")
    up_module._say_how_to_go_on(layout, Steps())
    assert f"export VEIL_KUBECONFIG={layout.kubeconfig}\n" in capsys.readouterr().err
    (tmp_path / ".veil").mkdir()
    (tmp_path / ".veil" / "config").symlink_to(layout.kubeconfig)
    up_module._say_how_to_go_on(layout, Steps())
    assert "export" not in capsys.readouterr().err


def test_without_a_cluster_there_is_no_status(layout: Layout) -> None:
    with pytest.raises(NotFound):
        status_of(layout)


def test_down_removes_a_dead_cluster_and_touches_no_other_process(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    recorded(layout)
    layout.kubeconfig.write_text("")
    (tmp_path / ".veil").mkdir()
    (tmp_path / ".veil" / "config").symlink_to(layout.kubeconfig)
    down(layout, Steps())
    assert not layout.root.exists()
    assert not (tmp_path / ".veil" / "config").is_symlink()
    down(layout, Steps())


def test_only_a_missing_or_a_clusters_kubeconfig_is_replaced(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    member = up_module._new_member(layout, 1)
    (member.directory / "api").mkdir()
    (member.directory / "api" / "kubeconfig").write_text("kind: Config")
    default = tmp_path / ".veil" / "config"
    up_module._kubeconfig(layout, member)
    assert default.resolve() == layout.kubeconfig.resolve()
    assert layout.kubeconfig.stat().st_mode & 0o777 == 0o600
    own = tmp_path / "dotfiles"
    own.write_text("mine")
    default.unlink()
    default.symlink_to(own)
    up_module._kubeconfig(layout, member)
    assert default.resolve() == own
    other = Layout(tmp_path / "other")
    other.root.mkdir()
    other.save(dead())
    other.kubeconfig.write_text("")
    default.unlink()
    default.symlink_to(other.kubeconfig)
    up_module._kubeconfig(layout, member)
    assert default.resolve() == layout.kubeconfig.resolve()


# the verbs


@pytest.mark.parametrize("verb", ["up", "down", "status", "report"])
def test_each_verb_has_help(verb: str, capsys: Veil) -> None:
    assert run(["dev", verb, "--help"]) == 0
    assert "--dir" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["status", "report"])
def test_without_a_cluster_a_verb_says_how_to_start_one(verb: str, tmp_path: Path, capsys: Veil) -> None:
    assert run(["dev", verb, "--dir", str(tmp_path)]) == 1
    assert "veil dev up" in capsys.readouterr().err


def test_down_without_a_cluster_is_done(tmp_path: Path, capsys: Veil) -> None:
    keep = tmp_path / "keep"
    keep.touch()
    assert run(["dev", "down", "--dir", str(tmp_path)]) == 0
    assert "no cluster" in capsys.readouterr().err
    assert keep.exists()


def test_status_is_for_people_and_for_scripts(layout: Layout, capsys: Veil) -> None:
    recorded(layout)
    assert run(["dev", "status", "--dir", str(layout.root)]) == 0
    assert "nothing" in capsys.readouterr().out
    assert run(["dev", "status", "--dir", str(layout.root), "-o", "json"]) == 0
    assert '"name": "node-1"' in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["up", "--nodes", "0"], ["up", "--nodes", "10"], ["up", "--runtime", "magic"], ["sideways"]]
)
def test_what_cannot_be_meant_is_refused_with_a_hint(arguments: list[str], capsys: Veil) -> None:
    assert run(["dev", *arguments]) == 1
    assert "--help" in capsys.readouterr().err
