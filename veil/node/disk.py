"""Whether this node's own facts still reach the disk: a write to the journal, and room for the next ones.

A journal that takes no writes stops everything that has to be remembered before it is done (releases, reservations, starts),
each with an error of its own; this says it in one place, before something fails if the disk is merely nearly full.
"""

import shutil
from pathlib import Path

from veil.errors import StorageUnavailable
from veil.store.journal import Journal

CHECK_S = 30.0
"""Between two looks: each is one synchronous write."""

FREE_MIN_BYTES = 64 << 20
"""Below this the next blob or log may be the last one."""

COUNTER = "disk-check"


class Disk:
    """Level-triggered: :meth:`sync` looks; :attr:`problem` is what it found, empty for nothing."""

    def __init__(self, journal: Journal, directory: Path) -> None:
        self._journal = journal
        self._directory = directory
        self.problem = ""

    async def sync(self) -> None:
        """Never raises: what is wrong is the answer."""
        try:
            self._journal.counters.next(COUNTER)
            free_bytes = shutil.disk_usage(self._directory).free
        except (StorageUnavailable, OSError) as error:
            self.problem = str(error)
            return
        full = f"less than FREE_MIN_BYTES={FREE_MIN_BYTES} are left on the disk of the node's directory"
        self.problem = full if free_bytes < FREE_MIN_BYTES else ""
