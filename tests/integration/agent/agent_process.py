"""An agent as a process of its own, so that a test can kill -9 it: python agent_process.py DIRECTORY MARKER"""

import asyncio
import sys
from pathlib import Path

from veil.agent.agent import Agent
from veil.agent.keys import DesiredInstance, InstanceKey
from veil.runtime.process import ProcessRuntime
from veil.store.journal import Journal
from veil.types import Generation, ObjectId, SystemClock
from veil.wire.objects import Resources


def desired(number: int, script: str) -> DesiredInstance:
    container = {"name": "main", "image": "none", "command": ["/bin/sh", "-c", script]}
    return DesiredInstance(
        key=InstanceKey(ObjectId(number.to_bytes(32, "big")), Generation(1), 0),
        namespace="shop",
        workload=f"w{number}",
        spec={"containers": [container], "terminationGracePeriodSeconds": 1},
        resources=Resources(containers={}),
    )


async def run(directory: Path, count: int) -> None:
    runtime = ProcessRuntime(directory / "containers")
    await runtime.start_driver()
    agent = Agent(
        runtime, Journal(directory / "journal.db"), SystemClock(), directory / "logs", lambda key, status: None, node="n1"
    )
    await agent.start()
    wanted = [desired(number, "echo here; exec sleep 1000") for number in range(count)]
    agent.set_desired({one.key: one for one in wanted})
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), int(sys.argv[2])))
