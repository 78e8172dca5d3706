"""`veil rollout`: a template that is another one, and how far it is."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_ran import Veil

from veil.api.fake import FakeNode, a_workload


@pytest.fixture
async def hello(veil: Veil, tmp_path: Path) -> Path:
    path = tmp_path / "hello.yaml"
    path.write_text(yaml.safe_dump(a_workload()))
    assert (await veil("apply", "-f", str(path))).code == 0
    return path


def say(served: FakeNode, status: str, reason: str, message: str, generation: int | None = None) -> None:
    live = served.store.get("Workload", "default", "hello")
    about = live["metadata"]["generation"] if generation is None else generation
    entry = {"type": "Progressing", "status": status, "reason": reason, "message": message, "observedGeneration": about}
    served.store.put({**live, "status": {"conditions": [entry]}})


def annotations(served: FakeNode) -> Any:
    return served.store.get("Workload", "default", "hello")["spec"]["template"]["metadata"]["annotations"]


async def test_restart_makes_another_template(veil: Veil, served: FakeNode, hello: Path) -> None:
    before = served.store.get("Workload", "default", "hello")
    assert await veil("rollout", "restart", "workload/hello") == (0, "workload.veil.dev/hello restarted\n", "")
    after, first = served.store.get("Workload", "default", "hello"), annotations(served)
    assert after["metadata"]["generation"] == before["metadata"]["generation"] + 1
    assert after["spec"]["template"]["containers"] == before["spec"]["template"]["containers"]
    assert list(first) == ["veil.dev/restartedAt"]
    await veil("rollout", "restart", "wl", "hello")
    assert annotations(served) != first
    assert (await veil("apply", "-f", str(hello))).out == "workload.veil.dev/hello unchanged\n", "apply leaves it alone"


async def test_status_follows_until_it_is_complete(veil: Veil, served: FakeNode, hello: Path) -> None:
    say(served, "True", "Complete", "old", generation=0)
    waiting = asyncio.create_task(veil("rollout", "status", "workload/hello", "--timeout=10s"))
    await asyncio.sleep(0.1)
    say(served, "True", "RollingOut", "1 of 2")
    await asyncio.sleep(0.1)
    assert not waiting.done()
    say(served, "True", "Complete", "generation 1 is rolled out")
    code, out, err = await waiting
    assert (code, err) == (0, "")
    lines = ["hello: generation 1 has not been looked at yet", "hello: 1 of 2", "hello: generation 1 is rolled out"]
    assert out.splitlines() == lines


async def test_status_of_one_that_failed_or_takes_too_long(veil: Veil, served: FakeNode, hello: Path) -> None:
    say(served, "True", "RollingOut", "1 of 2")
    assert await veil("rollout", "status", "wl/hello", "--no-watch") == (0, "hello: 1 of 2\n", "")
    code, _, err = await veil("rollout", "status", "wl/hello", "--timeout=100ms")
    assert code == 2
    assert "hello is not rolled out after 0.1 s: hello: 1 of 2" in err
    say(served, "False", "ReplicaFailed", "a replica has ended for good")
    code, _, err = await veil("rollout", "status", "wl/hello")
    assert (code, "cannot be rolled out: a replica has ended for good" in err) == (1, True)


async def test_only_workloads_roll_out(veil: Veil) -> None:
    for words in (["node/n1"], ["workload"], ["workload/none"]):
        code, _, err = await veil("rollout", "restart", *words)
        assert (code, "hint: " in err or "not found" in err) == (1, True)
