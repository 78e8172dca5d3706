"""What the children that load Concrete have in common: a clean pipe out, no core dumps, an end when the parent ends."""

import ctypes
import logging
import os
import resource
import signal
import sys
import threading
import time
from typing import BinaryIO

EXIT_MEMORY = 86
"""Exit code of a child that passed its memory limit."""

WATCH_PERIOD_S = 0.25

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4


def take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Standard input and output for frames; whatever else is printed (by native code too) goes to standard error."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    output = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return sys.stdin.buffer, output


def harden() -> None:
    """No core file and no debugger sees this process's memory; it does not outlive its parent."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_DUMPABLE, 0)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def rss_bytes() -> int:
    """Resident memory of this process."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def watch_memory(limit_bytes: int) -> None:
    """Ends the process with EXIT_MEMORY once it is larger. (Concrete reserves far more address space than it uses.)"""

    def watch() -> None:
        while True:
            if rss_bytes() > limit_bytes:
                os._exit(EXIT_MEMORY)
            time.sleep(WATCH_PERIOD_S)

    threading.Thread(target=watch, name="memory-watch", daemon=True).start()
