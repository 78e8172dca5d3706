"""Init containers on the fake runtime, in virtual time."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from veil.runtime.fake import Behaviour, FakeRuntime
from veil.wire.objects import ContainerResources, Resources

pytestmark = pytest.mark.looptime


def with_inits(host: Any, *commands: str, **template: Any) -> Any:
    inits = [{"name": f"i{number}", "image": "app:1", "command": [command]} for number, command in enumerate(commands)]
    return host.instance(initContainers=inits, **template)


def starts(host: Any) -> list[str]:
    return [id.rpartition("-")[2] for operation, id in host.machine.calls if operation == "start"]


async def test_each_waits_for_the_one_before(host: Any) -> None:
    host.want(with_inits(host, "one", "two"))
    await host.until(lambda: host.status().reason == "Initializing")
    assert (host.status().phase, host.status().message) == ("Creating", "init container i0 runs; the others wait for it")
    await asyncio.sleep(50)
    assert starts(host) == ["i0"]
    host.machine.finish(host.id(container="i0"), 0)
    await host.until(lambda: starts(host) == ["i0", "i1"])
    assert not host.status().ready
    host.machine.finish(host.id(container="i1"), 0)
    await host.until(lambda: host.status().phase == "Running")
    assert (starts(host), host.status().ready, host.status().exit_code) == (["i0", "i1", "main"], True, 0)


async def test_they_are_not_run_again_when_a_container_is(host: Any) -> None:
    host.machine.behaviours["one",] = Behaviour(exit_code=0)
    host.want(with_inits(host, "one"))
    await host.until(lambda: host.status().phase == "Running")
    host.machine.finish(host.id(), 1)
    await host.until(lambda: host.status().restarts == 1)
    await FakeRuntime(host.machine).delete(host.id(container="i0"))
    await host.restart_agent()
    host.want(with_inits(host, "one"))
    await asyncio.sleep(60)
    assert starts(host) == ["i0", "main", "main"]


async def test_one_that_fails_is_tried_again_with_back_off(host: Any) -> None:
    host.machine.behaviours["one",] = Behaviour(exit_code=6)
    host.want(with_inits(host, "one"))
    await host.until(lambda: host.status().reason == "CrashLoopBackOff")
    assert (host.status().phase, host.status().exit_code) == ("Creating", 6)
    assert host.status().message == "init container i0 ended with exit code 6; the next try waits longer each time"
    host.machine.behaviours["one",] = Behaviour(exit_code=0)
    assert 9 <= await host.until(lambda: host.status().phase == "Running", 30) <= 11
    assert (host.status().restarts, host.status().exit_code) == (2, 0)


async def test_never_restart_makes_its_failure_that_of_the_instance(host: Any) -> None:
    host.machine.behaviours["one",] = Behaviour(exit_code=6)
    host.want(with_inits(host, "one", restartPolicy="Never"))
    await host.until(lambda: host.status().phase == "Failed")
    assert (host.status().reason, host.status().exit_code) == ("Error", 6)
    await asyncio.sleep(60)
    assert starts(host) == ["i0"]


async def test_one_whose_end_nobody_saw_is_run_again(host: Any) -> None:
    host.want(with_inits(host, "one"))
    await host.until(lambda: starts(host) == ["i0"])
    await host.agent.close()
    host.machine.forget_end(host.id(container="i0"))
    host.agent = host.new_agent()
    await host.agent.start()
    host.want(with_inits(host, "one"))
    await host.until(lambda: starts(host) == ["i0", "i0"])


async def test_a_new_agent_goes_on_where_it_was(host: Any) -> None:
    host.want(with_inits(host, "one", "two"))
    await host.until(lambda: starts(host) == ["i0"])
    host.machine.finish(host.id(container="i0"), 0)
    await host.until(lambda: starts(host) == ["i0", "i1"])
    await host.restart_agent()
    host.want(with_inits(host, "one", "two"))
    await asyncio.sleep(10)
    host.machine.finish(host.id(container="i1"), 0)
    await host.until(lambda: starts(host) == ["i0", "i1", "main"])


async def test_all_are_removed_with_their_instance(host: Any) -> None:
    host.machine.behaviours["one",] = Behaviour(exit_code=0)
    host.want(with_inits(host, "one"))
    await host.until(lambda: host.status().phase == "Running")
    host.want()
    await host.until(lambda: not host.machine.records)


@pytest.mark.parametrize(("limits", "has"), [([(50, 7), (70, 8)], (120, 15)), ([(50, 7), (0, 8)], (0, 15)), ([(50, 7)], (50, 7))])
async def test_one_has_what_the_containers_have_together(host: Any, limits: list[tuple[int, int]], has: tuple[int, int]) -> None:
    wanted = with_inits(host, "one", containers=[{"name": f"c{number}", "image": "app:1"} for number in range(len(limits))])
    figures = {
        f"c{number}": ContainerResources(cpu_milli=cpu, memory_bytes=memory) for number, (cpu, memory) in enumerate(limits)
    }
    host.want(replace(wanted, resources=Resources(containers=figures)))
    await host.until(lambda: starts(host) == ["i0"])
    spec = host.machine.records[host.id(container="i0")].spec
    assert (spec.cpu_milli, spec.memory_bytes) == has
