"""The agent's life of an Instance on the fake runtime, in virtual time."""

import asyncio
import contextlib
import itertools
import logging
import random
import shutil
from dataclasses import replace
from typing import Any

import pytest

from veil.agent.queue import WorkQueue
from veil.errors import ContainerFailed, DigestMismatch, RuntimeUnavailable
from veil.runtime.fake import Behaviour, FakeRuntime
from veil.runtime.ports import ContainerSpec

pytestmark = pytest.mark.looptime


async def test_a_desired_instance_runs(host: Any) -> None:
    host.want(host.instance())
    await host.until(lambda: host.status().phase == "Running")
    status = host.status()
    assert (status.ready, status.restarts, status.reason, status.message) == (True, 0, "", "")
    assert status.started_s > 0
    spec = host.machine.records[host.id()].spec
    assert spec.env == {"VEIL_NODE": "n1", "VEIL_INSTANCE": "w1-1-0", "VEIL_NAMESPACE": "shop"}
    assert (spec.cpu_milli, spec.memory_bytes, spec.network) == (50, 1 << 20, "none")
    assert spec.stdout == host.log_dir / host.key().text / "main" / "stdout.log"


async def test_nothing_is_removed_before_the_first_desired_state(host: Any) -> None:
    host.want(host.instance())
    await host.until(lambda: host.running() == {host.id()})
    await host.restart_agent()
    await asyncio.sleep(600)
    assert host.running() == {host.id()}
    host.want()
    await host.until(lambda: not host.machine.records, 60)


async def test_a_new_agent_adopts_and_does_not_restart(host: Any) -> None:
    host.want(host.instance())
    await host.until(lambda: host.running() == {host.id()})
    pid = host.machine.records[host.id()].view.pid
    await host.restart_agent()
    host.want(host.instance())
    await host.until(lambda: host.status().phase == "Running")
    await asyncio.sleep(120)
    assert host.machine.records[host.id()].view.pid == pid
    assert (host.count("start", host.id()), host.status().restarts) == (1, 0)


async def test_an_end_that_nobody_saw_is_dealt_with(host: Any) -> None:
    host.want(host.instance(1), host.instance(2))
    await host.until(lambda: len(host.running()) == 2)
    await host.agent.close()
    host.machine.finish(host.id(1), 137)
    host.machine.forget_end(host.id(2))
    host.agent = host.new_agent()
    await host.agent.start()
    host.want(host.instance(1), host.instance(2))
    await host.until(lambda: host.running() == {host.id(1), host.id(2)})
    await host.until(lambda: [host.status(n).restarts for n in (1, 2)] == [1, 1])


async def test_a_killed_container_runs_again_at_once(host: Any) -> None:
    host.want(host.instance())
    await host.until(lambda: host.running() == {host.id()})
    host.machine.finish(host.id(), 137)
    assert await host.until(lambda: host.running() == {host.id()}, 0.3) <= 0.3


async def test_a_crash_loop_has_the_kubelets_pauses(host: Any) -> None:
    host.machine.behaviours["crash",] = Behaviour(exit_code=3)
    host.want(host.instance(command=["crash"]))
    starts = await started_at(host, 1500)
    pauses = [round(after - before) for before, after in itertools.pairwise(starts)]
    assert pauses[:8] == [0, 10, 20, 40, 80, 160, 300, 300]
    status = host.status()
    assert (status.phase, status.reason, status.exit_code, status.ready) == ("Creating", "CrashLoopBackOff", 3, False)
    assert status.restarts == len(starts) - 1


async def started_at(host: Any, during_s: float) -> list[float]:
    """When the container was started, in virtual time."""
    loop, times, seen = asyncio.get_running_loop(), [], 0
    end_s = loop.time() + during_s
    while loop.time() < end_s:
        count = host.count("start", host.id())
        times += [loop.time()] * (count - seen)
        seen = count
        await asyncio.sleep(0.5)
    return times


async def test_a_restart_of_the_agent_is_no_way_out_of_a_crash_loop(host: Any) -> None:
    host.machine.behaviours["crash",] = Behaviour(exit_code=3)
    host.want(host.instance(command=["crash"]))
    await host.until(lambda: host.count("start", host.id()) == 4, 60)  # at 0, 0, 10 and 30 s: the next pause is 40 s
    await host.restart_agent()
    host.want(host.instance(command=["crash"]))
    assert await host.until(lambda: host.count("start", host.id()) == 5, 60) >= 38
    assert host.status().restarts == 4


async def test_the_log_of_the_run_before_is_kept_through_failed_starts_and_a_new_agent(host: Any) -> None:
    host.machine.behaviours["crash",] = Behaviour(exit_code=3, stdout=b"a run\n")
    host.want(host.instance(command=["crash"]))
    await host.until(lambda: host.count("start", host.id()) == 2)
    host.machine.fail_next("start", ContainerFailed("not now"), times=2)
    await host.until(lambda: host.count("start", host.id()) == 4, 60)
    await host.restart_agent()
    host.want(host.instance(command=["crash"]))
    assert await output(host) == b""  # the run whose start failed
    assert await output(host, previous=True) == b"a run\n"
    await host.until(lambda: host.count("start", host.id()) == 5, 60)
    assert await output(host) == await output(host, previous=True) == b"a run\n"


async def output(host: Any, **options: Any) -> bytes:
    return b"".join([piece async for piece in host.agent.logs(host.key(), **options)])


async def test_the_name_may_be_left_out_beside_init_containers(host: Any) -> None:
    host.machine.behaviours["first",] = Behaviour(exit_code=0, stdout=b"prepared\n")
    host.machine.behaviours["serve",] = Behaviour(stdout=b"serves\n")
    host.want(host.instance(initContainers=[{"name": "first", "image": "app:1", "command": ["first"]}]))
    await host.until(lambda: host.status().phase == "Running")
    assert (await output(host), await output(host, container="first")) == (b"serves\n", b"prepared\n")


async def test_ten_minutes_of_running_forgive_everything(host: Any) -> None:
    host.want(host.instance())
    await host.until(lambda: host.running() == {host.id()})
    for _ in range(2):
        host.machine.finish(host.id(), 1)
        await host.until(lambda: host.running() == {host.id()}, 15)
    await asyncio.sleep(601)
    host.machine.finish(host.id(), 1)
    assert await host.until(lambda: host.running() == {host.id()}) <= 0.3
    assert host.status().restarts == 3


@pytest.mark.parametrize(
    ("policy", "code", "phase", "starts"),
    [
        ("Never", 0, "Succeeded", 1),
        ("Never", 1, "Failed", 1),
        ("OnFailure", 0, "Succeeded", 1),
        ("OnFailure", 1, "Creating", 2),
        ("Always", 0, "Creating", 2),
    ],
)
async def test_restart_policies(host: Any, policy: str, code: int, phase: str, starts: int) -> None:
    host.machine.behaviours["job",] = Behaviour(exit_code=code)
    host.want(host.instance(command=["job"], restartPolicy=policy))
    await asyncio.sleep(5)
    assert (host.status().phase, host.status().exit_code, host.count("start")) == (phase, code, starts)
    await host.restart_agent()
    host.want(host.instance(command=["job"], restartPolicy=policy))
    await asyncio.sleep(2)
    assert (host.status().phase, host.count("start")) == (phase, starts)
    assert (host.status().reason == "Completed") is (phase == "Succeeded")


async def test_a_job_whose_container_vanished_is_not_run_twice(host: Any) -> None:
    host.want(host.instance(restartPolicy="Never"))
    await host.until(lambda: host.running() == {host.id()})
    await FakeRuntime(host.machine).delete(host.id())
    await host.until(lambda: host.status().phase == "Failed", 60)
    assert (host.status().reason, host.count("start")) == ("ContainerLost", 1)


async def test_a_container_removed_behind_our_back_comes_back(host: Any) -> None:
    host.want(host.instance())
    await host.until(lambda: host.running() == {host.id()})
    await FakeRuntime(host.machine).delete(host.id())
    await host.until(lambda: host.running() == {host.id()}, 1)
    assert host.status().restarts == 1


async def test_a_container_whose_log_directory_went_is_started_all_the_same(host: Any) -> None:
    """A runtime refuses to start one whose output has no place to go, and would for ever."""
    host.want(host.instance())
    await host.until(lambda: host.running() == {host.id()})
    (logs,) = host.log_dir.iterdir()
    shutil.rmtree(logs)
    await FakeRuntime(host.machine).stop(host.id())
    await host.until(lambda: host.count("start") == 2, 30)
    assert (logs / "main").is_dir()


async def test_an_instance_that_came_back_meanwhile_is_not_swept(host: Any) -> None:
    """What a look at the disk found is removed one after the other, which takes a while."""
    host.want(host.instance())
    await host.until(lambda: host.running() == {host.id()})
    (logs,) = host.log_dir.iterdir()
    await host.agent._sweep({logs.name})
    assert (logs / "main").is_dir()


async def test_removal_keeps_the_grace_period_and_forgets_everything(host: Any) -> None:
    host.machine.behaviours["stubborn",] = Behaviour(on_sigterm=None)
    host.want(host.instance(command=["stubborn"], terminationGracePeriodSeconds=7))
    await host.until(lambda: host.running() == {host.id()})
    host.want()
    await asyncio.sleep(6.5)
    assert host.running() == {host.id()}
    assert host.status().phase == "Terminating"
    await host.until(lambda: not host.machine.records, 1)
    assert host.machine.signals == [(host.id(), "TERM"), (host.id(), "KILL")]
    await host.until(lambda: host.gone == [host.key()])
    assert not host.journal.restarts.rows
    assert not (host.log_dir / host.key().text).exists()
    assert host.agent.statuses() == {}


async def test_the_grace_period_is_known_after_a_restart(host: Any) -> None:
    host.machine.behaviours["stubborn",] = Behaviour(on_sigterm=None)
    host.want(host.instance(command=["stubborn"], terminationGracePeriodSeconds=3))
    await host.until(lambda: host.running() == {host.id()})
    await host.restart_agent()
    host.want()
    assert 2.9 <= await host.until(lambda: not host.machine.records, 5) <= 3.5


async def test_slow_removals_do_not_hold_up_a_restart(host: Any) -> None:
    host.machine.behaviours["stubborn",] = Behaviour(on_sigterm=None)
    slow = [host.instance(number, command=["stubborn"]) for number in range(2, 40)]
    host.want(host.instance(1), *slow)
    await host.until(lambda: len(host.running()) == 39, 5)
    host.want(host.instance(1))
    await asyncio.sleep(0.1)
    host.machine.finish(host.id(1), 137)
    await host.until(lambda: host.id(1) in host.running(), 0.3)


async def test_wanted_again_while_it_is_being_removed(host: Any) -> None:
    host.machine.behaviours["stubborn",] = Behaviour(on_sigterm=None)
    wanted = host.instance(command=["stubborn"], terminationGracePeriodSeconds=5, restartPolicy="Never")
    host.want(wanted)
    await host.until(lambda: host.running() == {host.id()})
    host.want()
    await asyncio.sleep(1)
    host.want(wanted)
    await asyncio.sleep(10)
    assert host.running() == {host.id()}
    assert host.count("start") == 2
    assert host.gone == []


async def test_foreign_containers_are_left_alone(host: Any) -> None:
    other = FakeRuntime(host.machine)
    await other.pull("app:1")
    for id, labels in (("plain", {}), ("theirs", {"veil.dev/node": "n2", "veil.dev/object": "00"})):
        spec = ContainerSpec(
            id=id, image="app:1", stdout=host.log_dir.parent / "o", stderr=host.log_dir.parent / "e", labels=labels
        )
        await other.create(spec)
        await other.start(id)
    host.want()
    await asyncio.sleep(100)
    assert host.running() == {"plain", "theirs"}


async def test_another_nodes_agent_does_not_touch_ours(host: Any) -> None:
    host.want(host.instance())
    await host.until(lambda: host.running() == {host.id()})
    await host.restart_agent("n2")
    host.want()
    await asyncio.sleep(100)
    assert host.running() == {host.id()}


async def test_a_template_that_changed_is_made_anew(host: Any) -> None:
    host.want(host.instance())
    await host.until(lambda: host.running() == {host.id()})
    host.want(host.instance(command=["other"]))
    await host.until(lambda: host.running() == {host.id()} and host.machine.records[host.id()].spec.command == ("other",))
    assert host.count("delete", host.id()) == 1


async def test_an_image_that_is_missing_then_there(host: Any) -> None:
    host.machine.missing_images.add("app:1")
    host.want(host.instance())
    await host.until(lambda: host.status().reason == "ImagePullBackOff")
    assert host.status().phase == "Pending"
    assert host.status().message == "image app:1: not found"
    await asyncio.sleep(25)
    assert host.count("pull") == 2  # at 0 and 10 s; the next at 30 s
    host.machine.missing_images.clear()
    await host.until(lambda: host.status().phase == "Running", 10)


async def test_why_a_runtime_cannot_fetch_an_image_is_not_quoted(host: Any) -> None:
    host.machine.fail_next("pull", ContainerFailed("no space for 1048576 bytes"))
    host.want(host.instance())
    await host.until(lambda: host.status().reason == "ImagePullBackOff")
    assert host.status().message == "image app:1 cannot be fetched: ContainerFailed"


async def test_a_registry_that_lies_is_named(host: Any) -> None:
    host.machine.fail_next("pull", DigestMismatch("image app:1: the registry sent sha256:00"))
    host.want(host.instance())
    await host.until(lambda: host.status().reason == "ImagePullBackOff")
    assert host.status().message == "image app:1: the registry sent sha256:00"


async def test_one_pull_for_many_instances(host: Any) -> None:
    host.want(*(host.instance(number) for number in range(20)))
    await host.until(lambda: len(host.running()) == 20)
    assert host.count("pull") == 1


async def test_an_image_removed_after_it_was_pulled_is_pulled_again(host: Any) -> None:
    host.want(host.instance(1))
    await host.until(lambda: len(host.running()) == 1)
    host.machine.images.clear()
    host.want(host.instance(1), host.instance(2))
    await host.until(lambda: host.status(2).reason == "ImagePullBackOff")
    await host.until(lambda: len(host.running()) == 2, 15)


async def test_a_container_that_cannot_start(host: Any) -> None:
    host.machine.fail_next("start", ContainerFailed("limit of 1048576 bytes and 50 milli is too low"), times=2)
    host.want(host.instance())
    await host.until(lambda: host.status().reason == "ContainerError")
    assert (host.status().phase, host.status().ready) == ("Creating", False)
    assert await host.until(lambda: host.status().phase == "Running", 60) >= 29  # 10 s, then 20 s


async def test_no_figure_in_status_or_log(host: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for operation in ("create", "start", "state"):
        host.machine.fail_next(operation, ContainerFailed("limit of 1048576 bytes and 50 milli is too low"))
    host.machine.fail_next("pull", ContainerFailed("needs 1048576 bytes"))
    host.machine.fail_next("list", ValueError("1048576"))
    host.want(host.instance())
    await host.until(lambda: host.status().phase == "Running", 120)
    said = caplog.text + str(host.heard)
    assert "1048576" not in said
    assert "50 milli" not in said
    assert "too low" in caplog.text


async def test_a_template_of_others_is_not_quoted(host: Any) -> None:
    host.machine.missing_images.add("app:1")
    host.want(replace(host.instance(), public=False))
    await host.until(lambda: host.status().reason == "ImagePullBackOff")
    assert host.status().message == "an image cannot be fetched; the node's log says why"


async def test_a_template_that_cannot_be_run_harms_nobody_else(host: Any) -> None:
    broken = [{"containers": None}, {}, {"containers": [{"name": "a/b", "image": "x"}]}, {"containers": [{"name": "a"}]}]
    wrong = [replace(host.instance(number), spec=spec) for number, spec in enumerate(broken, 2)]
    host.want(host.instance(1), *wrong)
    await host.until(lambda: host.status(1).phase == "Running")
    assert {host.status(number).reason for number in range(2, 6)} == {"InvalidTemplate"}


async def test_the_runtime_goes_away_and_comes_back(host: Any) -> None:
    host.want(host.instance(1), host.instance(2))
    await host.until(lambda: len(host.running()) == 2)
    host.machine.away()
    host.machine.finish(host.id(1), 137)
    host.want(host.instance(1), host.instance(2), host.instance(3))
    await host.until(lambda: host.status(3).reason == "RuntimeUnavailable")
    assert host.status(3).phase == "Pending"
    assert host.status(2).phase == "Running"
    await asyncio.sleep(100)
    host.machine.back()
    await host.until(lambda: host.running() == {host.id(n) for n in (1, 2, 3)}, 1)
    await host.until(lambda: host.status(3).phase == "Running")
    assert host.count("start", host.id(2)) == 1


async def test_the_runtime_is_away_from_the_start(host: Any) -> None:
    await host.agent.close()
    host.machine.away()
    host.agent = host.new_agent()
    await host.agent.start()
    host.want(host.instance())
    await asyncio.sleep(50)
    assert host.status().reason == "RuntimeUnavailable"
    host.machine.back()
    await host.until(lambda: host.running() == {host.id()}, 1)


async def test_one_call_without_an_answer_is_made_again_soon(host: Any) -> None:
    host.want(host.instance())
    await host.until(lambda: host.running() == {host.id()})
    await asyncio.sleep(5)
    host.machine.fail_next("start", RuntimeUnavailable("busy"))
    host.machine.finish(host.id(), 137)
    await host.until(lambda: host.status().reason == "RuntimeUnavailable")
    await host.until(lambda: host.running() == {host.id()}, 11)


async def test_lost_events_cost_time_and_nothing_else(host: Any) -> None:
    host.want(host.instance())
    await host.until(lambda: host.running() == {host.id()})
    host.machine.losing_events = True
    host.machine.finish(host.id(), 137)
    await host.until(lambda: host.running() == {host.id()}, 31)


async def test_two_containers_of_one_instance(host: Any) -> None:
    wanted = host.instance()
    side = {"name": "side", "image": "app:1", "command": ["side"]}
    wanted = replace(wanted, spec={"containers": [*wanted.spec["containers"], side]})
    host.machine.behaviours["side",] = Behaviour(fails_to_start="no such program")
    host.want(wanted)
    await host.until(lambda: host.status().reason == "ContainerError")
    assert host.running() == {host.id()}
    assert host.status().ready is False
    host.machine.behaviours.clear()
    await host.until(lambda: host.status().ready, 15)
    assert host.running() == {host.id(), host.id(container="side")}


async def test_logs_go_through_the_agent(host: Any) -> None:
    host.machine.behaviours["talk",] = Behaviour(stdout=b"one\ntwo\n")
    host.want(host.instance(command=["talk"]))
    await host.until(lambda: host.running() == {host.id()})
    assert b"".join([piece async for piece in host.agent.logs(host.key(), tail_lines=1)]) == b"two\n"


class Unserialised(WorkQueue[Any]):
    """A broken twin: handles a key as often at once as it is added."""

    def add(self, key: Any) -> None:
        if self._open:
            task = asyncio.get_running_loop().create_task(self._forgetful(key))
            self._running[object()] = task

    async def _forgetful(self, key: Any) -> None:
        with contextlib.suppress(Exception):
            await self._handle(key)


@pytest.mark.parametrize("seed", range(4))
async def test_random_changes_end_at_what_is_desired(host: Any, seed: int) -> None:
    """Applies, deletes, crashes, gaps and restarts of the agent: in the end the runtime has exactly what is desired."""
    await random_changes(host, seed)


async def test_an_agent_with_a_broken_queue_is_caught(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("veil.agent.agent.WorkQueue", Unserialised)
    await host.restart_agent()
    with pytest.raises(AssertionError, match="at once"):
        await random_changes(host, 1)


async def random_changes(host: Any, seed: int) -> None:
    chance = random.Random(seed)
    wanted: dict[int, int] = {}
    for _ in range(60):
        for _ in range(chance.randrange(1, 8)):
            number = chance.randrange(50)
            if number in wanted and chance.random() < 0.5:
                del wanted[number]
            else:
                wanted[number] = chance.randrange(1, 3)
        host.want(*(host.instance(number, generation=generation) for number, generation in wanted.items()))
        await asyncio.sleep(chance.choice([0, 0, 0.01, 0.2]))
        await disturb(host, chance, wanted)
    assert not host.runtime.overlaps, "two operations on one container at once"
    host.machine.losing_events = False
    host.machine.back()
    expected = {host.id(number, generation) for number, generation in wanted.items()}
    await host.until(lambda: host.running() == expected == set(host.machine.records), 700)
    await host.until(lambda: said(host) == set(wanted.items()))
    assert not host.runtime.needless_starts, "started what was running"


def said(host: Any) -> set[tuple[int, int]]:
    return {(key.object_id[-1], key.generation) for key in host.agent.statuses()}


async def disturb(host: Any, chance: random.Random, wanted: dict[int, int]) -> None:
    dice = chance.random()
    if dice < 0.3 and (running := sorted(host.running())):
        host.machine.finish(chance.choice(running), chance.choice([0, 1, 137]))
    elif dice < 0.4:
        host.machine.away()
    elif dice < 0.6:
        host.machine.back()
    elif dice < 0.7:
        host.machine.losing_events = not host.machine.losing_events
    elif dice < 0.8:
        host.machine.fail_next(chance.choice(["create", "start", "stop", "delete"]), ContainerFailed("at random"))
    elif dice < 0.9:
        await host.restart_agent()
        host.want(*(host.instance(number, generation=generation) for number, generation in wanted.items()))
    elif dice < 0.95:
        host.machine.fail_next("list", RuntimeUnavailable("at random"))
