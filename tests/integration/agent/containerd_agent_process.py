"""An agent on a running private containerd as a process of its own, to be killed by signal:
python containerd_agent_process.py CONTAINERD_DIRECTORY DIRECTORY COUNT"""

import asyncio
import sys
from pathlib import Path

from containerd_machine import Machine, desired

from veil.runtime.daemon import PrivateContainerd


async def run(private: PrivateContainerd, directory: Path, count: int) -> None:
    machine = Machine(private, directory)
    await machine.runtime.start_driver()
    await machine.agent.start()
    machine.agent.set_desired(desired(*range(1, count + 1)))
    await asyncio.Event().wait()


if __name__ == "__main__":
    home = Path(sys.argv[1])
    asyncio.run(run(PrivateContainerd(home, home.with_name("containerd.log")), Path(sys.argv[2]), int(sys.argv[3])))
