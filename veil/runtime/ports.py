"""What a container runtime must do, whatever drives it. Knows nothing of Veil: only containers, images, bytes and exit codes.

Every driver passes the one conformance suite (``tests/integration/runtime``). Ids are chosen by the caller and unique within
the driver's own namespace; all operations may be repeated with the same id and then change nothing (idempotent), unless said
otherwise.
"""

import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal, Protocol

from veil.runtime.credentials import Login


class ContainerState(StrEnum):
    """A container's life. ``UNKNOWN`` = the record is there and its process's end was not seen."""

    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A directory or file of the machine inside a container. ``source`` exists when the container is started."""

    source: Path
    destination: str
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PortMapping:
    """A port of this machine, on all its addresses, that leads to one of a container."""

    host_port: int
    container_port: int
    protocol: Literal["tcp", "udp"] = "tcp"


BRIDGE = "bridge"
"""A network that the runtime itself has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """What to run. ``cpu_milli``/``memory_bytes``/``pids`` of 0 mean no limit."""

    id: str
    image: str
    command: Sequence[str] = ()
    """Replaces the image's entrypoint when not empty."""
    args: Sequence[str] = ()
    """Replaces the image's cmd when not empty."""
    env: Mapping[str, str] = field(default_factory=dict)
    workdir: str = ""
    cpu_milli: int = 0
    memory_bytes: int = 0
    pids: int = 0
    network: str = "none"
    """``none`` (loopback only), ``host``, a network namespace's path, or BRIDGE (ContainerFailed where a driver has none)."""
    ports: Sequence[PortMapping] = ()
    """Published by the runtime, with BRIDGE only."""
    read_only_root: bool = False
    mounts: Sequence[Mount] = ()
    devices: Sequence[Path] = ()
    """Device nodes of the machine that the container may open, under the same paths."""
    stdout: Path
    stderr: Path
    """Regular files that the driver appends to (O_APPEND), created if missing."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Stored by the runtime and given back by list: how containers are adopted after a restart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """What the runtime says of one container. Times are Unix seconds, 0 when unknown or not yet."""

    id: str
    state: ContainerState
    pid: int = 0
    exit_code: int | None = None
    """Set once EXITED; None when the end was not seen."""
    started_s: float = 0.0
    finished_s: float = 0.0
    image: str = ""
    """As its specification named it."""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One name of an image that is here. ``pulled``: it can be fetched again."""

    name: str
    """The full one: registry/repository:tag."""
    pulled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """The disk that images and containers are on, as this process may use it."""

    total_bytes: int
    used_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Usage of one container now."""

    cpu_seconds: float
    memory_bytes: int
    pids: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecResult:
    """The end of a command run inside a container."""

    exit_code: int
    output: bytes
    """stdout and stderr as they came, at most the caller's ``max_output_bytes``."""


class EventKind(StrEnum):
    STARTED = "started"
    EXITED = "exited"
    OOM = "oom"
    RESYNC = "resync"
    """Events may have been lost (the runtime was away): list again. Its id is empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeEvent:
    kind: EventKind
    id: str = ""
    exit_code: int | None = None


class ExecSession(Protocol):
    """A command that runs inside a container, with its input and its output as they come."""

    async def write(self, data: bytes) -> None:
        """Input; waits while the command does not read. What comes after its end is dropped."""
        ...

    async def end_input(self) -> None:
        """No more input."""
        ...

    async def read(self) -> tuple[int, bytes] | None:
        """Some output and its stream, 1 for stdout (and for all that a terminal shows), 2 for stderr; None at the end."""
        ...

    async def resize(self, columns: int, rows: int) -> None:
        """Of its terminal. Without one, and after its end, nothing happens."""
        ...

    async def wait(self) -> int:
        """Its exit code, once it has ended and its output was read or dropped."""
        ...

    async def close(self) -> None:
        """Kill it if it runs, and forget it."""
        ...


class Runtime(Protocol):
    """One container runtime. Raises RuntimeUnavailable when it does not answer, ImageUnavailable, ContainerFailed, NotFound."""

    name: str
    """``containerd``, ``docker``, ``process`` or ``fake``."""

    async def start_driver(self) -> None:
        """Connect; wait until the runtime answers. Called once before anything else."""
        ...

    async def close(self) -> None:
        """Disconnect. Containers go on running."""
        ...

    async def version(self) -> str: ...

    async def pull(self, image: str, login: Login | None = None) -> str:
        """Make ``image`` present; gives back its manifest digest (``sha256:…``). Present already = no network.

        ``login`` is the caller's own and goes before the driver's. An image that was fetched with one is *guarded*: being
        here is not enough then, the registry has to give it to each caller anew. That it gave it to a ``login`` is
        remembered for the driver's life.
        """
        ...

    async def import_image(self, name: str, archive: Path) -> str:
        """Load an OCI image layout tar under ``name``; gives back its manifest digest."""
        ...

    async def images(self) -> "list[Image]":
        """Every name of an image here."""
        ...

    async def remove_image(self, name: str) -> None:
        """Forget it and free what nothing else needs, before this returns. Not there = done. Containers of it go on."""
        ...

    async def disk(self) -> Disk: ...

    async def create(self, spec: ContainerSpec) -> Container: ...

    async def start(self, id: str) -> Container:
        """Start a CREATED container, or start an EXITED one anew (a restart in place)."""
        ...

    async def stop(self, id: str, *, grace_s: float = 30.0) -> Container:
        """SIGTERM, then SIGKILL after ``grace_s``. Returns once the process is gone."""
        ...

    async def delete(self, id: str) -> None:
        """Kill if running, then remove every trace (record, snapshot, cgroup). Not there = done."""
        ...

    async def exec(
        self, id: str, command: Sequence[str], *, timeout_s: float = 60.0, max_output_bytes: int = 1 << 20
    ) -> ExecResult:
        """Raises ContainerFailed when the container does not run, DeadlineExceeded (the command is killed then)."""
        ...

    async def open_exec(self, id: str, command: Sequence[str], *, tty: bool = False) -> ExecSession:
        """Begin a command that people speak with. Raises ContainerFailed, also where the driver has no such thing; NotFound."""
        ...

    async def open_socket(self, id: str) -> socket.socket:
        """A TCP socket (IPv4, non-blocking, not connected) in the container's network. Raises ContainerFailed, NotFound."""
        ...

    async def state(self, id: str) -> Container:
        """Raises NotFound."""
        ...

    async def list(self) -> list[Container]: ...

    async def stats(self, id: str) -> Stats: ...

    async def written(self, id: str) -> int:
        """Bytes of disk that what the container wrote to its own root takes; 0 where it never started. Raises NotFound."""
        ...

    def events(self) -> AsyncIterator[RuntimeEvent]:
        """Every start and exit from now on; never ends by itself. Begins with, and has after every gap, a RESYNC."""
        ...

    async def update(self, id: str, *, cpu_milli: int = 0, memory_bytes: int = 0, pids: int = 0) -> None:
        """Change limits, now and for later starts; 0 leaves one as it is."""
        ...
