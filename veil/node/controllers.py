"""The child process with the kopf controllers: started, watched, started again."""

import asyncio
import contextlib
import logging
import random
import sys
from importlib import resources
from pathlib import Path

from veil.errors import ConfigInvalid

log = logging.getLogger(__name__)

RESTART_FIRST_S = 0.5
RESTART_MAX_S = 30.0
STABLE_S = 30.0
STOP_GRACE_S = 5.0


def launcher_path() -> Path:
    """``controllers/launch.py``: inside the wheel, or in the checkout."""
    package = Path(str(resources.files("veil")))
    for folder in (package / "controllers", package.parent / "controllers"):
        if (folder / "launch.py").exists():
            return folder / "launch.py"
    raise ConfigInvalid("controllers/launch.py is missing from this installation", hint="reinstall Veil")


class ControllersChild:
    """Runs until cancelled. The child ends by itself when its standard input closes, so it never outlives the node."""

    def __init__(self, socket: Path, log_file: Path) -> None:
        self._socket = socket
        self._log_file = log_file
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """0 while it is not running."""
        return self._process.pid if self._process and self._process.returncode is None else 0

    async def run(self) -> None:
        """Supervise: restart with exponential back-off, from the start again once it ran for STABLE_S."""
        loop = asyncio.get_running_loop()
        delay_s = RESTART_FIRST_S
        while True:
            began_s = loop.time()
            try:
                why = f"ended with code {await self._run_once()}"
            except OSError as error:
                why = f"cannot be started: {error.strerror}"
            if loop.time() - began_s > STABLE_S:
                delay_s = RESTART_FIRST_S
            log.warning("controllers %s; starting again in %.1f s", why, delay_s)
            await asyncio.sleep(delay_s * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, no secret
            delay_s = min(RESTART_MAX_S, delay_s * 2)

    async def _run_once(self) -> int:
        with self._log_file.open("ab") as output:
            self._process = process = await asyncio.create_subprocess_exec(
                sys.executable,
                str(launcher_path()),
                "--socket",
                str(self._socket),
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            return await process.wait()
        finally:
            await self._end(process)

    @staticmethod
    async def _end(process: asyncio.subprocess.Process) -> None:
        if process.returncode is not None:
            return
        if process.stdin is not None:
            process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_GRACE_S):
                await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
