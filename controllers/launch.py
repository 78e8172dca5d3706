"""``veil-controllers``: kopf with all controllers in a process of its own, as a child of a node.

    python controllers/launch.py --socket controllers.sock [--heartbeat FILE]

Its own process, because kopf replaces signal handlers and, when it stops, cancels every task of its event loop. It lives as
long as its standard input is open: a node that dies, however it dies, closes it. With ``--heartbeat`` the file's time of
change says when the event loop last turned.
"""

import argparse
import asyncio
import importlib.util
import logging
import os
import signal
import sys
from pathlib import Path

import kopf

HANDLERS = ("connection.py", "workload.py")
HEARTBEAT_S = 1.0
EXIT_DEADLINE_S = 2.0
"""How long kopf may take to stop once the node is gone; stopped while it still connects, it can wait for a login for ever."""

log = logging.getLogger("veil.controllers")


def load_handlers(folder: Path) -> None:
    """Run the handlers' files, which register themselves with kopf."""
    for file in HANDLERS:
        name = f"veil_controllers_{Path(file).stem}"
        spec = importlib.util.spec_from_file_location(name, folder / file)
        if spec is None or spec.loader is None:
            raise ImportError(f"{folder / file} cannot be loaded")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)


def _end(stop: asyncio.Event, why: str) -> None:
    log.info("%s: ending", why)
    stop.set()
    asyncio.get_running_loop().call_later(EXIT_DEADLINE_S, os._exit, 1)


async def _until_stdin_closes(stop: asyncio.Event) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.read(1024):
        pass
    _end(stop, "standard input is closed, the node is gone")


async def _take_signals(stop: asyncio.Event, ready: asyncio.Event) -> None:
    """Once kopf has set its own handlers, replace them: theirs know no deadline."""
    await ready.wait()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, _end, stop, f"signal {number}")


async def _beat(path: Path) -> None:
    while True:
        await asyncio.to_thread(path.touch)
        await asyncio.sleep(HEARTBEAT_S)


async def run(heartbeat: Path | None) -> None:
    """Until standard input closes or a signal ends kopf."""
    stop, ready = asyncio.Event(), asyncio.Event()
    tasks = [asyncio.create_task(_until_stdin_closes(stop)), asyncio.create_task(_take_signals(stop, ready))]
    if heartbeat is not None:
        tasks.append(asyncio.create_task(_beat(heartbeat)))
    try:
        await kopf.operator(clusterwide=True, standalone=True, stop_flag=stop, ready_flag=ready)
    finally:
        for task in tasks:
            task.cancel()


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="veil-controllers", description="The controllers of one Veil node.")
    parser.add_argument("--socket", required=True, type=Path, help="the node's API socket for its controllers")
    parser.add_argument("--heartbeat", type=Path, help="a file to touch once a second")
    options = parser.parse_args()
    os.environ["VEIL_CONTROLLERS_SOCKET"] = str(options.socket.absolute())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("kopf").setLevel(logging.WARNING)
    load_handlers(Path(__file__).resolve().parent)
    asyncio.run(run(options.heartbeat))


if __name__ == "__main__":
    main()
