"""Starting processes that outlive the command, and ending exactly those."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from veil.dev.layout import ProcessRecord

STOP_GRACE_S = 15.0
"""How long a process may take to end by itself before it is killed."""


def started_ticks(pid: int) -> int:
    """When ``pid`` was started, in clock ticks since boot; 0 when there is no such (living) process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    after_name = stat.rpartition(")")[2].split()
    return 0 if after_name[0] == "Z" else int(after_name[19])


def record_of(role: str, pid: int) -> ProcessRecord:
    """What is remembered of a process that has just been started."""
    return ProcessRecord(role=role, pid=pid, started_ticks=started_ticks(pid))


def is_alive(process: ProcessRecord) -> bool:
    """Whether this very process still runs."""
    return process.started_ticks != 0 and started_ticks(process.pid) == process.started_ticks


def spawn(role: str, command: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None) -> ProcessRecord:
    """Start a detached process in a session of its own, writing to ``log``."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        child = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
    # The command that starts a cluster ends before it: init reaps. Until then a dead child must not look alive (state Z).
    child.returncode = 0
    return record_of(role, child.pid)


def stop(processes: Sequence[ProcessRecord], *, grace_s: float = STOP_GRACE_S) -> None:
    """SIGTERM to all, then SIGKILL to whoever is left after ``grace_s``."""
    living = [process for process in processes if is_alive(process)]
    for process in living:
        _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while (living := [process for process in living if is_alive(process)]) and time.monotonic() < deadline:
        _reap()
        time.sleep(0.05)
    for process in living:
        _signal(process, signal.SIGKILL)


def _signal(process: ProcessRecord, number: signal.Signals) -> None:
    if is_alive(process):
        os.kill(process.pid, number)


def _reap() -> None:
    """Collect ended children of this command, if any are its own."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
