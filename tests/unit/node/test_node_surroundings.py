"""What stands around a node's parts: its doors, its conditions, its child process, its settings, its waiting to be started."""

import asyncio
import json
import stat
import sys
from collections import namedtuple
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from node_world import OPERATOR, World

from veil.chain.signer import LocalSigner
from veil.config import NodeSettings
from veil.errors import ChainUnavailable, ConfigInvalid, RuntimeUnavailable, StorageUnavailable
from veil.identity import Identity, peer_id_text
from veil.node import controllers as controllers_module
from veil.node import disk as disk_module
from veil.node.controllers import RESTART_MAX_S, STABLE_S, STOP_GRACE_S, ControllersChild, launcher_path
from veil.node.disk import FREE_MIN_BYTES, Disk
from veil.node.endpoint import Endpoint
from veil.node.health import Condition, Health, Verdict
from veil.node.node import Node
from veil.node.starting import until_available
from veil.store.journal import Journal

pytestmark = pytest.mark.looptime


def settings(directory: Path, **changed: Any) -> NodeSettings:
    known: dict[str, Any] = {"directory": directory, "name": "node-1", "rpc_urls": ("http://127.0.0.1:1",), "contract": OPERATOR}
    return NodeSettings(**(known | {"runtime": "process"} | changed))


# doors


def test_token_and_kubeconfig_are_the_owners_alone_and_stay(tmp_path: Path) -> None:
    endpoint = Endpoint(settings(tmp_path))
    token = endpoint.token()
    url = endpoint.announce(4567, endpoint.certificates())
    assert url == "https://127.0.0.1:4567"
    for name in ("token", "kubeconfig", "server.key", "ca.key"):
        assert stat.S_IMODE((tmp_path / "api" / name).stat().st_mode) == 0o600, name
    assert stat.S_IMODE((tmp_path / "api").stat().st_mode) == 0o700
    assert Endpoint(settings(tmp_path)).token() == token


def test_the_port_is_kept_over_restarts_unless_one_is_configured(tmp_path: Path) -> None:
    endpoint = Endpoint(settings(tmp_path))
    assert endpoint.wanted_port() == 0
    endpoint.announce(4567, endpoint.certificates())
    assert Endpoint(settings(tmp_path)).wanted_port() == 4567
    assert Endpoint(settings(tmp_path, api_listen="127.0.0.1:6443")).wanted_port() == 6443
    (tmp_path / "api" / "port").write_text("")
    assert Endpoint(settings(tmp_path)).wanted_port() == 0


@pytest.mark.parametrize("listen", ["localhost", "localhost:https", ":6443", "127.0.0.1:-1"])
def test_a_listening_address_that_is_none_is_refused(tmp_path: Path, listen: str) -> None:
    with pytest.raises(ConfigInvalid):
        Endpoint(settings(tmp_path, api_listen=listen))


def test_what_runs_is_said_in_a_file_and_a_full_disk_is_no_bug(tmp_path: Path) -> None:
    endpoint = Endpoint(settings(tmp_path))
    endpoint.say("https://x:1", {"meshd": 7})
    said = tmp_path / "endpoint.json"
    assert json.loads(said.read_text()) == {"api": "https://x:1", "pids": {"meshd": 7}}
    (tmp_path / "endpoint.new").mkdir()
    endpoint.say("https://x:1", {"meshd": 7})
    with pytest.raises(StorageUnavailable):
        endpoint.say("https://x:1", {"meshd": 8})


# conditions


class Part:
    def __init__(self) -> None:
        self.problem = ""
        self.error: RuntimeUnavailable | None = None

    async def check(self) -> str:
        if self.error is not None:
            raise self.error
        return self.problem


async def test_conditions_say_what_is_wrong_and_since_when() -> None:
    world, part, now, name = await World().start(), Part(), ["t1"], [""]
    health = Health(world.store, lambda: name[0], [Condition("Ready", "Fine", "Broken", part.check)], lambda: now[0])
    await health.sync()
    name[0] = "node-1"
    await health.sync()
    other = {"type": "Reachable", "status": "True"}
    world.store.put({"kind": "Node", "metadata": {"name": "node-1"}, "status": {"phase": "Active", "conditions": [other]}})

    async def shown() -> Any:
        await health.sync()
        status = world.store.get("Node", "", "node-1")["status"]
        assert (status["phase"], status["conditions"][0]) == ("Active", other)
        return status["conditions"][1]

    assert await shown() == {"type": "Ready", "status": "True", "reason": "Fine", "message": "", "lastTransitionTime": "t1"}
    now[0] = "t2"
    assert (await shown())["lastTransitionTime"] == "t1"
    part.problem = "it hurts"
    assert await shown() == {
        "type": "Ready",
        "status": "False",
        "reason": "Broken",
        "message": "it hurts",
        "lastTransitionTime": "t2",
    }
    now[0], part.error = "t3", RuntimeUnavailable("away")
    assert (await shown())["message"] == "RuntimeUnavailable: away"
    assert (await shown())["lastTransitionTime"] == "t2"


# controllers


class FakeProcess:
    """A child of asyncio that lives for ``life_s``; closing its standard input ends it unless it is ``deaf``."""

    def __init__(self, life_s: float, *, deaf: bool = False) -> None:
        self.pid, self.returncode, self.killed = 4321, None, False
        self.stdin, self._deaf, self._over = self, deaf, asyncio.Event()
        asyncio.get_running_loop().call_later(life_s, self._end, 1)

    def _end(self, code: int) -> None:
        self.returncode = code  # type: ignore[assignment]
        self._over.set()

    def close(self) -> None:
        if not self._deaf:
            self._end(0)

    def kill(self) -> None:
        self.killed = True
        self._end(-9)

    async def wait(self) -> int | None:
        await self._over.wait()
        return self.returncode


class Spawning:
    def __init__(self) -> None:
        self.life_s, self.deaf, self.error = 0.0, False, False
        self.at_s: list[float] = []
        self.made: list[FakeProcess] = []
        self.command: tuple[str, ...] = ()
        self.stdin: Any = None

    async def __call__(self, *command: str, stdin: Any, **_: Any) -> FakeProcess:
        self.command, self.stdin = command, stdin
        self.at_s.append(asyncio.get_running_loop().time())
        if self.error:
            raise OSError(11, "no more processes")
        self.made.append(FakeProcess(self.life_s, deaf=self.deaf))
        return self.made[-1]


@pytest.fixture
def spawning(monkeypatch: pytest.MonkeyPatch) -> Spawning:
    made = Spawning()
    monkeypatch.setattr(controllers_module.asyncio, "create_subprocess_exec", made)
    return made


async def supervised(tmp_path: Path, for_s: float) -> ControllersChild:
    child = ControllersChild(tmp_path / "ctl.sock", tmp_path / "controllers.log")
    task = asyncio.create_task(child.run())
    await asyncio.sleep(for_s)
    assert not task.done()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return child


@pytest.mark.parametrize("error", [False, True], ids=["ends", "cannot be started"])
async def test_controllers_are_started_again_with_growing_bounded_pauses(tmp_path: Path, spawning: Spawning, error: bool) -> None:
    spawning.error = error
    await supervised(tmp_path, 300)
    pauses = [later - earlier for earlier, later in zip(spawning.at_s, spawning.at_s[1:], strict=False)]
    assert 0.4 <= pauses[0] <= 0.6
    assert 0.8 <= pauses[1] <= 1.2
    assert RESTART_MAX_S * 0.8 <= pauses[-1] <= RESTART_MAX_S * 1.2 + 1e-6


async def test_after_a_long_life_the_pause_is_short_again(tmp_path: Path, spawning: Spawning) -> None:
    spawning.life_s = STABLE_S + 1
    await supervised(tmp_path, 200)
    pauses = [later - earlier - spawning.life_s for earlier, later in zip(spawning.at_s, spawning.at_s[1:], strict=False)]
    assert max(pauses) < 0.7


@pytest.mark.parametrize("deaf", [False, True])
async def test_the_child_ends_with_the_node(tmp_path: Path, spawning: Spawning, deaf: bool) -> None:
    spawning.life_s, spawning.deaf = 1e6, deaf
    began_s = asyncio.get_running_loop().time()
    child = await supervised(tmp_path, 10)
    (process,) = spawning.made
    assert (process.returncode is not None, process.killed, child.pid) == (True, deaf, 0)
    assert asyncio.get_running_loop().time() - began_s <= 10 + STOP_GRACE_S + 0.1
    assert spawning.stdin == asyncio.subprocess.PIPE, "what tells a child that its parent was killed"
    assert spawning.command[:2] == (sys.executable, str(launcher_path()))


async def test_a_check_may_give_a_reason_of_its_own() -> None:
    world = await World().start()

    async def check() -> Verdict:
        return Verdict(True, "NotInCommittee", "others evaluate")

    health = Health(world.store, lambda: "node-1", [Condition("FheReady", "Fine", "Broken", check)], lambda: "t1")
    world.store.put({"kind": "Node", "metadata": {"name": "node-1"}, "status": {}})
    await health.sync()
    (shown,) = world.store.get("Node", "", "node-1")["status"]["conditions"]
    assert (shown["status"], shown["reason"], shown["message"]) == ("True", "NotInCommittee", "others evaluate")


# the disk


async def test_a_disk_that_takes_no_writes_or_is_full_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "journal.db")
    disk = Disk(journal, tmp_path)
    await disk.sync()
    assert disk.problem == ""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(disk_module.shutil, "disk_usage", lambda path: usage(1, 1, FREE_MIN_BYTES - 1))
    await disk.sync()
    assert f"FREE_MIN_BYTES={FREE_MIN_BYTES}" in disk.problem
    monkeypatch.setattr(disk_module.shutil, "disk_usage", lambda path: usage(1, 0, FREE_MIN_BYTES))
    await disk.sync()
    assert disk.problem == ""
    journal._database.execute("PRAGMA query_only=ON")
    await disk.sync()
    assert "readonly" in disk.problem
    journal.close()


# the node


def a_node_directory(directory: Path) -> Identity:
    identity = Identity.generate()
    identity.save(directory / "peer.key")
    LocalSigner.generate().save(directory / "operator.key")
    return identity


def test_another_peer_id_than_the_keys_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    a_node_directory(tmp_path)
    expected = peer_id_text(Identity.generate().peer_id)
    with pytest.raises(ConfigInvalid, match=expected) as caught:
        Node(settings(tmp_path, peer_id=expected))
    assert caught.value.hint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["operator.key", "peer.key"]


def test_a_bootstrap_address_that_is_none_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    a_node_directory(tmp_path)
    with pytest.raises(ConfigInvalid):
        Node(settings(tmp_path, bootstrap=("/ip4/10.0.0.1/tcp/1",)))
    assert not (tmp_path / "journal.db").exists()


async def test_the_right_peer_id_is_taken(tmp_path: Path) -> None:
    identity = a_node_directory(tmp_path)
    node = Node(settings(tmp_path, peer_id=peer_id_text(identity.peer_id)))
    node.journal.close()
    await node.chain.close()


async def test_what_is_away_at_the_start_is_waited_for() -> None:
    tries = 0

    async def start() -> None:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise ChainUnavailable("away")

    assert await until_available(start, asyncio.Event())
    assert tries == 4


async def test_a_node_that_waits_for_its_chain_can_be_stopped() -> None:
    async def start() -> None:
        raise ChainUnavailable("away")

    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(60, stop.set)
    assert not await until_available(start, stop)
    assert asyncio.get_running_loop().time() < 61


async def test_what_no_waiting_helps_against_ends_the_start() -> None:
    async def start() -> None:
        raise ConfigInvalid("no contract there")

    with pytest.raises(ConfigInvalid):
        await until_available(start, asyncio.Event())
