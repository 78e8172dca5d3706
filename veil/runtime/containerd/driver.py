"""Containers in containerd: what each operation of the port means in its services.

A container is three things there: a record (labels, specification), a snapshot (its writable root) and, once started, a task.
The record is made first and removed last, so that nothing exists that ``list`` does not show, and every operation can be
repeated after a death in the middle. The record also carries what containerd does not remember: where the logs go and when
the task was started. A record that was started and has no task is UNKNOWN: its end was not seen.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random

from veil.errors import AlreadyExists, Conflict, ContainerFailed, ImageUnavailable, NotFound, RuntimeUnavailable, VeilError
from veil.runtime.containerd import events as event_stream
from veil.runtime.containerd.connection import BundleLeft, Connection, ShimGone
from veil.runtime.containerd.execution import execute
from veil.runtime.containerd.images import Image, Images
from veil.runtime.containerd.schema import message
from veil.runtime.containerd.sessions import open_session
from veil.runtime.containerd.shims import bury, remove_bundle
from veil.runtime.containerd.snapshots import Snapshots
from veil.runtime.containerd.spec import User, resources, runtime_spec
from veil.runtime.containerd.tasks import Task, Tasks, spec_any
from veil.runtime.containerd.user import layer_roots, needs_files, resolve_user
from veil.runtime.credentials import Login
from veil.runtime.ids import check_id
from veil.runtime.locks import Locks
from veil.runtime.netns import tcp_socket_of
from veil.runtime.ports import Container, ContainerSpec, ContainerState, Disk, ExecResult, ExecSession, RuntimeEvent, Stats
from veil.runtime.ports import Image as NamedImage

CONNECT_DEADLINE_S = 15.0
KILL_DEADLINE_S = 15.0
CLEANUP_DEADLINE_S = 15.0
"""containerd gives itself 5 s to remove what a dead shim left (``io.containerd.timeout.shim.cleanup``)."""

_RETRY_S = 0.05

_OWN = "veil.dev/runtime."
_STARTED, _STDOUT, _STDERR, _CHAIN, _EMPTY = (_OWN + name for name in ("started", "stdout", "stderr", "chain", "empty"))
"""Labels of ours on the record; not given back by list. ``_EMPTY`` names the labels without a value: containerd drops those."""


class ContainerdRuntime:
    """The containers of one namespace of one containerd.

    ``runc_root`` and ``cgroup_parent`` (an absolute cgroup path) must differ between instances on one machine: runc keeps its
    state by container id alone. ``credentials``: a file of registry logins (:mod:`veil.runtime.credentials`).
    """

    name = "containerd"

    def __init__(
        self,
        socket: Path,
        *,
        namespace: str = "veil",
        snapshotter: str = "overlayfs",
        runc_root: Path | None = None,
        cgroup_parent: str = "/veil",
        credentials: Path | None = None,
    ) -> None:
        self._credentials = credentials
        self._socket = socket
        self._namespace = namespace
        self._snapshotter = snapshotter
        self._runc_root = runc_root
        self._cgroup_parent = cgroup_parent
        self._locks = Locks()
        self._made: dict[str, tuple[Any, Any]] = {}
        """Record and mounts of what was just created: its start, which mostly follows, need not ask for them again."""

    async def start_driver(self) -> None:
        self._connection = Connection(self._socket, self._namespace)
        self._snapshots = Snapshots(self._connection, self._snapshotter)
        self._images = Images(self._connection, self._snapshots, self._credentials)
        self._tasks = Tasks(self._connection, self._runc_root)
        try:
            async with asyncio.timeout(CONNECT_DEADLINE_S):
                await self._until_it_answers()
        except TimeoutError:
            await self._connection.close()
            raise RuntimeUnavailable(
                f"containerd at {self._socket} does not answer", hint="start it, or set the right socket"
            ) from None
        with contextlib.suppress(AlreadyExists):
            await self._call("namespaces", "Create", namespace=_namespace(self._namespace))

    async def close(self) -> None:
        await self._connection.close()

    async def version(self) -> str:
        return f"containerd {(await self._call('version', 'Version')).version}"

    async def pull(self, image: str, login: Login | None = None) -> str:
        return await self._images.pull(image, login)

    async def import_image(self, name: str, archive: Path) -> str:
        return await self._images.load(name, archive)

    async def images(self) -> "list[NamedImage]":
        return await self._images.list()

    async def remove_image(self, name: str) -> None:
        await self._images.remove(name)

    async def disk(self) -> Disk:
        usage = await asyncio.to_thread(psutil.disk_usage, str(await self._snapshots.root()))
        return Disk(total_bytes=usage.used + usage.free, used_bytes=usage.used)

    async def create(self, spec: ContainerSpec) -> Container:
        async with self._locks[check_id(spec.id)]:
            try:
                return await self._make(spec)
            except (AlreadyExists, ImageUnavailable):
                with contextlib.suppress(NotFound):
                    return await self.state(spec.id)
                raise

    async def start(self, id: str) -> Container:
        async with self._locks[id]:
            made = self._made.pop(id, None)
            record, task, mounts = (*made[:1], None, made[1]) if made is not None else await self._look_up(id)
            if task is not None and task.state is ContainerState.RUNNING:
                return _view(record, task)
            if task is not None:
                await self._remove_task(id)
            logs = Path(record.labels[_STDOUT]), Path(record.labels[_STDERR])
            await asyncio.to_thread(_touch, id, logs)
            try:
                await _both(self._set_label(record, _STARTED, repr(time.time())), self._create_task(id, mounts, logs))
                pid = await self._tasks.start(id)
            except RuntimeUnavailable:
                raise
            except VeilError as error:
                await self._remove_task(id)
                await self._set_label(record, _STARTED, "")
                raise ContainerFailed(
                    f"container {id} did not start: {error.message}", hint=error.hint or "check its command"
                ) from error
            return _view(record, Task(id=id, state=ContainerState.RUNNING, pid=pid, exit_code=0, finished_s=0.0))

    async def stop(self, id: str, *, grace_s: float = 30.0) -> Container:
        record = await self._get_record(id)
        await self._end(id, signal.SIGTERM, grace_s)
        return _view(record, await self._tasks.get(id))

    async def delete(self, id: str) -> None:
        async with self._locks[check_id(id)]:
            self._made.pop(id, None)
            await self._remove_task(id)
            await self._snapshots.remove(id)
            with contextlib.suppress(NotFound):
                await self._call("containers", "Delete", id=id)

    async def exec(
        self, id: str, command: Sequence[str], *, timeout_s: float = 60.0, max_output_bytes: int = 1 << 20
    ) -> ExecResult:
        record = await self._get_record(id)
        await self._running(id)
        process = json.loads(record.spec.value)["process"]
        return await execute(self._tasks, id, process, command, timeout_s=timeout_s, max_output_bytes=max_output_bytes)

    async def open_exec(self, id: str, command: Sequence[str], *, tty: bool = False) -> ExecSession:
        record = await self._get_record(id)
        await self._running(id)
        return await open_session(self._tasks, id, json.loads(record.spec.value)["process"], command, tty=tty)

    async def open_socket(self, id: str) -> socket.socket:
        await self._get_record(id)
        task = await self._running(id)
        return await asyncio.to_thread(tcp_socket_of, task.pid)

    async def state(self, id: str) -> Container:
        record, task = await asyncio.gather(self._get_record(id), self._tasks.get(id))
        return _view(record, task)

    async def stats(self, id: str) -> Stats:
        await self._get_record(id)
        await self._running(id)
        return await self._tasks.stats(id)

    async def written(self, id: str) -> int:
        await self._get_record(id)
        return await self._snapshots.usage(id)

    def events(self) -> AsyncIterator[RuntimeEvent]:
        return event_stream.events(self._connection)

    async def update(self, id: str, *, cpu_milli: int = 0, memory_bytes: int = 0, pids: int = 0) -> None:
        async with self._locks[id]:
            self._made.pop(id, None)
            record = await self._get_record(id)
            changed = resources(cpu_milli, memory_bytes, pids)
            if await self._tasks.get(id) is not None:
                await self._tasks.update(id, changed)
            spec = json.loads(record.spec.value)
            spec["linux"]["resources"].update(changed)
            await self._update_record("spec", id=id, spec=spec_any(spec))

    async def list(self) -> list[Container]:
        answer, tasks = await asyncio.gather(self._call("containers", "List"), self._tasks.list())
        return [_view(record, tasks.get(record.id)) for record in answer.containers]

    async def _make(self, spec: ContainerSpec) -> Container:
        image = await self._images.get(spec.image)
        user = await self._user(spec, image)
        runtime = runtime_spec(spec, image.config, user, f"{self._cgroup_parent}/{spec.id}")
        empty = ",".join(key for key, value in spec.labels.items() if not value)
        own = {_STDOUT: str(spec.stdout), _STDERR: str(spec.stderr), _CHAIN: image.chain, _EMPTY: empty}
        record = _record(
            id=spec.id,
            image=spec.image,
            labels={**spec.labels, **own},
            snapshotter=self._snapshotter,
            snapshot_key=spec.id,
            runtime=_runtime(self._tasks.options),
            spec=spec_any(runtime),
        )
        await self._call("containers", "Create", container=record)
        self._made[spec.id] = record, await self._snapshots.prepare(spec.id, image.chain)
        return _view(record, None)

    async def _look_up(self, id: str) -> tuple[Any, Task | None, Any]:
        """Record, task and the mounts of the snapshot, which is made if it is not there."""
        record, task, mounts = await asyncio.gather(self._get_record(id), self._tasks.get(id), self._snapshots.mounts(id))
        return record, task, mounts if mounts is not None else await self._snapshots.prepare(id, record.labels[_CHAIN])

    async def _until_it_answers(self) -> None:
        while True:
            try:
                await self.version()
            except RuntimeUnavailable:
                await asyncio.sleep(_RETRY_S)
            else:
                return

    async def _user(self, spec: ContainerSpec, image: Image) -> User:
        """The image's user; the container's own snapshot is looked into only if it is named by name."""
        user = str(image.config.get("User") or "")
        if not needs_files(user):
            return resolve_user(user, ())
        key = f"user {spec.id}"
        mounts = await self._snapshots.prepare(key, image.chain)
        try:
            return await asyncio.to_thread(resolve_user, user, layer_roots(mounts))
        finally:
            await self._snapshots.remove(key)

    async def _end(self, id: str, first_signal: int, grace_s: float) -> None:
        """Signal the task, kill it after ``grace_s``, return once it has ended."""
        for number, patience_s in ((first_signal, grace_s), (signal.SIGKILL, KILL_DEADLINE_S)):
            task = await self._tasks.get(id)
            if task is None or task.state is not ContainerState.RUNNING:
                return
            waiting = asyncio.create_task(self._tasks.wait(id, timeout_s=patience_s))
            try:
                async with asyncio.timeout(patience_s):
                    with contextlib.suppress(NotFound):
                        await self._tasks.kill(id, number)
                        await waiting
                    return
            except TimeoutError:
                continue
            finally:
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
        raise ContainerFailed(f"container {id} does not die", hint="it hangs in the kernel; look at its processes with ps")

    async def _remove_task(self, id: str) -> None:
        """A task that was made and never started is no RUNNING one and containerd deletes it as it is."""
        async for attempt in _while_cleaning_up():
            with attempt:
                await self._end(id, signal.SIGKILL, KILL_DEADLINE_S)
                with contextlib.suppress(NotFound):
                    await self._delete_task(id)
        await asyncio.to_thread(bury, self._socket, self._namespace, id, f"{self._cgroup_parent}/{id}")

    async def _create_task(self, id: str, mounts: Any, logs: tuple[Path, Path]) -> None:
        """A task whose shim was killed is not found and yet exists until containerd has cleaned up after it.

        Where containerd was killed, too, it can forget the task's directory, which would be in the way for ever.
        """
        try:
            await self._create_task_cleanly(id, mounts, logs)
        except BundleLeft as left:
            await asyncio.to_thread(bury, self._socket, self._namespace, id, f"{self._cgroup_parent}/{id}")
            await asyncio.to_thread(remove_bundle, left.bundle, self._namespace, id)
            await self._create_task_cleanly(id, mounts, logs)

    async def _create_task_cleanly(self, id: str, mounts: Any, logs: tuple[Path, Path]) -> None:
        async for attempt in _while_cleaning_up():
            with attempt:
                await self._tasks.create(id, mounts, *logs)

    async def _delete_task(self, id: str) -> None:
        try:
            await self._tasks.delete(id)
        except Conflict:
            await self._tasks.kill(id, signal.SIGKILL)
            await self._tasks.wait(id, timeout_s=KILL_DEADLINE_S)
            await self._tasks.delete(id)

    async def _running(self, id: str) -> Task:
        task = await self._tasks.get(id)
        if task is None or task.state is not ContainerState.RUNNING:
            raise ContainerFailed(f"container {id} is not running", hint="start it first")
        return task

    async def _get_record(self, id: str) -> Any:
        try:
            return (await self._call("containers", "Get", id=check_id(id))).container
        except NotFound as error:
            raise NotFound(f"no container {id}", hint="create it first") from error

    async def _set_label(self, record: Any, key: str, value: str) -> None:
        record.labels[key] = value
        await self._update_record(f"labels.{key}", id=record.id, labels={key: value})

    async def _update_record(self, path: str, **fields: Any) -> None:
        mask = message("google.protobuf.FieldMask")(paths=[path])
        await self._call("containers", "Update", container=_record(**fields), update_mask=mask)

    async def _call(self, service: str, name: str, /, **fields: Any) -> Any:
        return await self._connection.call(service, name, **fields)


async def _both(one: Awaitable[None], other: Awaitable[None]) -> None:
    """Neither is cut short by the other's failure: what was begun in containerd has an end before it is cleaned up."""
    failures = [failure for failure in await asyncio.gather(one, other, return_exceptions=True) if failure is not None]
    for failure in sorted(failures, key=lambda failure: not isinstance(failure, RuntimeUnavailable)):
        raise failure


def _while_cleaning_up() -> AsyncRetrying:
    return AsyncRetrying(
        retry=retry_if_exception_type((ShimGone, AlreadyExists, BundleLeft)),
        wait=wait_random(0.02, 0.1),
        stop=stop_after_delay(CLEANUP_DEADLINE_S),
        reraise=True,
    )


def _record(**fields: Any) -> Any:
    return message("containerd.services.containers.v1.Container")(**fields)


def _runtime(options: Any) -> Any:
    return message("containerd.services.containers.v1.Container.Runtime")(name="io.containerd.runc.v2", options=options)


def _namespace(name: str) -> Any:
    return message("containerd.services.namespaces.v1.Namespace")(name=name)


def _view(record: Any, task: Task | None) -> Container:
    started = record.labels.get(_STARTED, "")
    if task is None:
        state = ContainerState.UNKNOWN if started else ContainerState.CREATED
        return Container(
            id=record.id, state=state, started_s=float(started or 0), image=record.image, labels=_labels(record.labels)
        )
    ended = task.state is ContainerState.EXITED
    return Container(
        id=record.id,
        state=task.state,
        pid=0 if ended else task.pid,
        exit_code=task.exit_code if ended else None,
        started_s=float(started or 0),
        finished_s=task.finished_s if ended else 0.0,
        image=record.image,
        labels=_labels(record.labels),
    )


def _labels(labels: Mapping[str, str]) -> dict[str, str]:
    empty = dict.fromkeys(filter(None, labels.get(_EMPTY, "").split(",")), "")
    return empty | {key: value for key, value in labels.items() if not key.startswith(_OWN)}


def _touch(id: str, logs: Sequence[Path]) -> None:
    """containerd appends to regular files that exist; of a path that does not exist it would make a fifo."""
    for path in logs:
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640))
        except OSError as error:
            raise ContainerFailed(f"container {id}: log file {path}: {error.strerror}", hint="make its directory") from error
