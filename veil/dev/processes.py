"""Starting processes that outlive the command, and ending exactly those."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from veil.dev.layout import ProcessRecord

STOP_GRACE_S = 15.0
"""How long a process may take to end by itself before it is killed."""

KILL_WAIT_S = 5.0
"""How long is waited for a killed process to be gone: what it held open is removed next."""

POLL_S = 0.05


def started_ticks(pid: int) -> int:
    """When ``pid`` was started, in clock ticks since boot; 0 when there is no such (living) process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    after_name = stat.rpartition(")")[2].split()
    return 0 if after_name[0] in "ZX" else int(after_name[19])


def record_of(role: str, pid: int) -> ProcessRecord:
    """What is remembered of a process that has just been started."""
    return ProcessRecord(role=role, pid=pid, started_ticks=started_ticks(pid))


def is_alive(process: ProcessRecord) -> bool:
    """Whether this very process still runs."""
    return process.started_ticks != 0 and started_ticks(process.pid) == process.started_ticks


def spawn(role: str, command: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None) -> ProcessRecord:
    """Start a detached process in a session of its own, writing to ``log``.

    Settings of the shell (VEIL_*) are not passed on: they would count more than those that the cluster was made with.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("VEIL_")}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        child = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**inherited, **(env or {})},
            start_new_session=True,
        )
    # The command that starts a cluster ends before it: init reaps. Until then a dead child must not look alive (state Z).
    child.returncode = 0
    return record_of(role, child.pid)


def stop(processes: Sequence[ProcessRecord], *, grace_s: float = STOP_GRACE_S) -> None:
    """SIGTERM to all, then SIGKILL to whoever is left after ``grace_s``. Returns when they are gone."""
    living = [process for process in processes if is_alive(process)]
    for number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, KILL_WAIT_S)):
        for process in living:
            _signal(process, number)
        living = _wait(living, wait_s)


def _wait(processes: list[ProcessRecord], timeout_s: float) -> list[ProcessRecord]:
    """Those that are left at the end."""
    deadline = time.monotonic() + timeout_s
    while True:
        for process in processes:
            _reap(process.pid)
        processes = [process for process in processes if is_alive(process)]
        if not processes or time.monotonic() >= deadline:
            return processes
        time.sleep(POLL_S)


def _signal(process: ProcessRecord, number: signal.Signals) -> None:
    if is_alive(process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def _reap(pid: int) -> None:
    """Collect ``pid`` if it has ended and is a child of this command; nobody else's exit codes are taken."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
