"""The files of one log: the one that is written to, those that it was rotated to, and the same of the run before."""

from pathlib import Path

LOG_FILES_MAX = 5
"""The file written to and its four predecessors: the kubelet's figures."""


def rotated(log: Path, number: int) -> Path:
    """Its ``number``-th predecessor; 1 is the newest."""
    return log.with_name(f"{log.name}.{number}")


def predecessors(log: Path) -> list[Path]:
    """Those that are there, the oldest first."""
    return [path for number in range(LOG_FILES_MAX - 1, 0, -1) if (path := rotated(log, number)).exists()]


def previous_of(log: Path) -> Path:
    """The same of the run before."""
    return log.with_name(f"{log.stem}.previous{log.suffix}")
