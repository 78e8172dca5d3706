"""A chain for one machine: anvil as a child process that can outlive whoever started it.

It mines every transaction at once and an empty block every second, so that terms pass and readers see that it lives. It
keeps its state in a file, written every second, and comes back from kill -9 with at most one second lost, which readers
see as a reorg. It has no accounts of its own; anvil's calls let anyone who reaches the port do anything to it, so it
listens on the loopback interface only and holds nothing of value.
"""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from veil.chain.rpc import Rpc
from veil.errors import ChainUnavailable, ConfigInvalid
from veil.types import Address, Clock, SystemClock

START_DEADLINE_S = 20.0
STOP_DEADLINE_S = 5.0
WEI_PER_ETHER = 10**18
_BUNDLED = Path("contracts/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil")


def find_anvil() -> str:
    """The program: that of the checkout's npm packages, else the one on the PATH. Raises ConfigInvalid."""
    bundled = Path(__file__).parents[2] / _BUNDLED
    found = str(bundled) if bundled.is_file() else shutil.which("anvil")
    if found is None:
        raise ConfigInvalid("anvil is not installed", hint="`make setup` installs it, or put `anvil` on the PATH")
    return found


class DevChain:
    """The chain whose files are in ``directory``: ``anvil.json`` (state), ``anvil.log``, ``chain.json`` (pid and port).

    ``keep_states`` is of how many blocks the state is kept, which ``anvil_reorg`` needs, at a quarter of a megabyte of memory
    for each, also for empty ones: for tests, not for a chain that stays up. They are kept in memory: anvil would write older
    ones to disk, and a reorg down to one of those loses the code of all contracts. Whoever calls ``anvil_reorg`` sets
    ``block_time_s=0`` too, no blocks by the clock: one that falls into a reorg leaves a chain in which the blocks that were
    taken back are missing for good. Without ``persist`` it writes no state file, which with thousands of blocks it is busy
    with all the time: for benches.
    """

    def __init__(
        self,
        directory: Path,
        *,
        block_time_s: int = 1,
        keep_states: int = 0,
        persist: bool = True,
        clock: Clock | None = None,
    ) -> None:
        self._directory = directory
        self._block_time_s = block_time_s
        self._keep_states = keep_states
        self._persist = persist
        self._clock = clock or SystemClock()
        self._child: subprocess.Popen[bytes] | None = None
        self.pid = 0
        self.port = 0
        self._recall()

    @property
    def rpc_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def running(self) -> bool:
        """Whether the recorded process is there and is this chain's."""
        if self._child is not None:
            return self._child.poll() is None
        try:
            command = Path(f"/proc/{self.pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return self.pid > 0 and str(self._state).encode() in command

    async def start(self) -> None:
        """Start it, with its earlier state and port if there are any; nothing happens if it runs. Raises ChainUnavailable."""
        if not self.running():
            self._directory.mkdir(parents=True, exist_ok=True)
            self._launch()
        await self._wait_ready()

    def _launch(self) -> None:
        self.port = self.port if self.port and _is_free(self.port) else _free_port()
        command = [find_anvil(), "--host", "127.0.0.1", "--port", str(self.port), "--accounts", "0", "--silent"]
        command += ["--slots-in-an-epoch", "1"]
        if self._block_time_s:
            command += ["--mixed-mining", "--block-time", str(self._block_time_s)]
        if self._persist:
            command += ["--state", str(self._state), "--state-interval", "1"]
        command += ["--prune-history", str(self._keep_states)] if self._keep_states else ["--prune-history"]
        with (self._directory / "anvil.log").open("ab") as log:
            self._child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=self._directory
            )
        self.pid = self._child.pid
        record = self._directory / "chain.json.new"
        record.write_text(json.dumps({"pid": self.pid, "port": self.port}))
        record.replace(self._directory / "chain.json")

    async def _wait_ready(self) -> None:
        deadline = self._clock.monotonic_s() + START_DEADLINE_S
        rpc = Rpc(self.rpc_url, deadline_s=2)
        try:
            while True:
                try:
                    await rpc.call(str, "eth_chainId")
                    return
                except ChainUnavailable as error:
                    if not self.running() or self._clock.monotonic_s() > deadline:
                        raise ChainUnavailable(
                            f"anvil did not come up on port {self.port}", hint=f"see {self._directory / 'anvil.log'}"
                        ) from error
                await asyncio.sleep(0.02)
        finally:
            await rpc.close()

    async def stop(self) -> None:
        """End it, however it was started; its state stays. Nothing happens if it does not run."""
        if not self.running():
            return
        os.kill(self.pid, signal.SIGTERM)
        deadline = self._clock.monotonic_s() + STOP_DEADLINE_S
        while self.running():
            if self._clock.monotonic_s() > deadline:
                os.kill(self.pid, signal.SIGKILL)
            await asyncio.sleep(0.02)

    async def fund(self, address: Address, ether: int = 1000) -> None:
        """Set the balance of an account."""
        rpc = Rpc(self.rpc_url)
        try:
            await rpc.find(bool, "anvil_setBalance", address, hex(ether * WEI_PER_ETHER))
        finally:
            await rpc.close()

    @property
    def _state(self) -> Path:
        return self._directory.absolute() / "anvil.json"

    def _recall(self) -> None:
        try:
            record = json.loads((self._directory / "chain.json").read_text())
            self.pid, self.port = int(record["pid"]), int(record["port"])
        except (OSError, ValueError, KeyError):
            self.pid = self.port = 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
