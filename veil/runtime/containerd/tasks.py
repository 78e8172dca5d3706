"""Tasks: the running side of containerd's containers. One method a job; what they mean together is the driver's business."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from veil.errors import ContainerFailed, NotFound
from veil.runtime.containerd.connection import CALL_DEADLINE_S, Connection
from veil.runtime.containerd.schema import message, unpack
from veil.runtime.ports import ContainerState, Stats

START_DEADLINE_S = 60.0
WAIT_MARGIN_S = 5.0
"""How much longer than the caller's own timeout a wait may hang."""

_SPEC_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/"
_STATES = {
    1: ContainerState.CREATED,
    2: ContainerState.RUNNING,
    3: ContainerState.EXITED,
    4: ContainerState.RUNNING,
    5: ContainerState.RUNNING,
}
"""containerd.v1.types.Status; PAUSED and PAUSING are running: their process is there."""


@dataclass(frozen=True, slots=True)
class Task:
    """What containerd says of a task. ``exit_code`` and ``finished_s`` mean something once EXITED."""

    id: str
    state: ContainerState
    pid: int
    exit_code: int
    finished_s: float


class Tasks:
    """The tasks of one namespace; ``runc_root`` keeps instances on one machine apart."""

    def __init__(self, connection: Connection, runc_root: Path | None) -> None:
        self._connection = connection
        root = str(runc_root) if runc_root else ""
        self.options = message("google.protobuf.Any")(
            type_url="containerd.runc.v1.Options",
            value=message("containerd.runc.v1.Options")(root=root).SerializeToString(),
        )

    async def get(self, id: str) -> Task | None:
        try:
            return _task((await self._call("Get", container_id=id)).process)
        except NotFound:
            return None

    async def list(self) -> dict[str, Task]:
        return {process.id: _task(process) for process in (await self._call("List")).tasks}

    async def create(self, id: str, mounts: Any, stdout: Path, stderr: Path) -> None:
        """Make the container's process, not yet started; plain paths of existing files are appended to."""
        await self._call(
            "Create",
            deadline_s=START_DEADLINE_S,
            container_id=id,
            rootfs=mounts,
            stdout=str(stdout),
            stderr=str(stderr),
            options=self.options,
        )

    async def start(self, id: str, exec_id: str = "") -> int:
        return int((await self._call("Start", deadline_s=START_DEADLINE_S, container_id=id, exec_id=exec_id)).pid)

    async def kill(self, id: str, signal: int, exec_id: str = "") -> None:
        """Raises NotFound when the process has ended."""
        await self._call("Kill", container_id=id, exec_id=exec_id, signal=signal)

    async def wait(self, id: str, *, timeout_s: float, exec_id: str = "") -> int:
        """The exit code, once there is one. Raises NotFound, RuntimeUnavailable after the timeout."""
        return int((await self._call("Wait", deadline_s=timeout_s + WAIT_MARGIN_S, container_id=id, exec_id=exec_id)).exit_status)

    async def delete(self, id: str) -> None:
        """Remove an ended task. Raises NotFound, Conflict when it still runs."""
        await self._call("Delete", deadline_s=START_DEADLINE_S, container_id=id)

    async def add_process(
        self,
        id: str,
        exec_id: str,
        process: dict[str, Any],
        stdout: Path,
        stderr: Path | None,
        stdin: Path | None = None,
    ) -> None:
        """An exec, not yet started. ``stderr`` None: it has a terminal, which has one output."""
        paths = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
        await self._call(
            "Exec",
            deadline_s=START_DEADLINE_S,
            container_id=id,
            exec_id=exec_id,
            spec=_json_any("Process", process),
            terminal=stderr is None,
            **{name: str(path) for name, path in paths.items() if path is not None},
        )

    async def resize(self, id: str, exec_id: str, columns: int, rows: int) -> None:
        await self._call("ResizePty", container_id=id, exec_id=exec_id, width=columns, height=rows)

    async def close_input(self, id: str, exec_id: str) -> None:
        """The shim holds the input open for as long as it is not told this."""
        await self._call("CloseIO", container_id=id, exec_id=exec_id, stdin=True)

    async def delete_process(self, id: str, exec_id: str) -> None:
        """Remove an ended exec; its output has been written when this returns."""
        await self._call("DeleteProcess", container_id=id, exec_id=exec_id)

    async def update(self, id: str, resources: dict[str, Any]) -> None:
        await self._call("Update", container_id=id, resources=_json_any("LinuxResources", resources))

    async def stats(self, id: str) -> Stats:
        metrics = (await self._call("Metrics", filters=[f"id=={id}"])).metrics
        found = unpack(metrics[0].data) if metrics else None
        if found is None:
            raise ContainerFailed(f"containerd has no metrics of container {id}", hint="it may have just ended")
        return _stats(found)

    async def _call(self, name: str, /, *, deadline_s: float = CALL_DEADLINE_S, **fields: Any) -> Any:
        return await self._connection.call("tasks", name, deadline_s=deadline_s, **fields)


def spec_any(spec: dict[str, Any]) -> Any:
    """A runtime specification as containerd stores it."""
    return _json_any("Spec", spec)


def _json_any(kind: str, value: dict[str, Any] | Sequence[Any]) -> Any:
    return message("google.protobuf.Any")(type_url=_SPEC_TYPE + kind, value=json.dumps(value).encode())


def _task(process: Any) -> Task:
    return Task(
        id=process.id,
        state=_STATES.get(process.status, ContainerState.UNKNOWN),
        pid=process.pid,
        exit_code=process.exit_status,
        finished_s=max(0.0, process.exited_at.seconds + process.exited_at.nanos / 1e9),
    )


def _stats(metrics: Any) -> Stats:
    """cgroup v1 or v2 metrics. Memory is the working set: page cache that can be dropped at once is not counted."""
    if metrics.DESCRIPTOR.full_name.endswith("v1.Metrics"):
        cpu_seconds = metrics.cpu.usage.total / 1e9
        used, idle = metrics.memory.usage.usage, metrics.memory.total_inactive_file
    else:
        cpu_seconds = metrics.cpu.usage_usec / 1e6
        used, idle = metrics.memory.usage, metrics.memory.inactive_file
    return Stats(cpu_seconds=cpu_seconds, memory_bytes=max(0, used - idle), pids=metrics.pids.current)
