"""Containers of a Docker API: what each operation of the port means there.

The daemon keeps the record, the image, the exit code and the output; this adds what the port promises beyond that: output in
files (:mod:`veil.runtime.docker.output`), a stop that is exact to less than a second, ids that are the caller's.
"""

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from veil.errors import Conflict, ContainerFailed, ImageUnavailable, NotFound, RuntimeUnavailable
from veil.runtime.credentials import Login
from veil.runtime.docker import events as event_stream
from veil.runtime.docker.connection import Connection
from veil.runtime.docker.execution import execute
from veil.runtime.docker.images import Images
from veil.runtime.docker.output import OutputCopies
from veil.runtime.docker.sessions import open_session
from veil.runtime.docker.spec import NAMESPACE, STDERR, STDOUT, create_body, limits, view
from veil.runtime.docker.timestamps import NS_PER_S
from veil.runtime.ids import check_id
from veil.runtime.locks import Locks
from veil.runtime.netns import tcp_socket_of
from veil.runtime.ports import Container, ContainerSpec, ContainerState, Disk, ExecResult, ExecSession, Image, RuntimeEvent, Stats

log = logging.getLogger(__name__)

CONNECT_DEADLINE_S = 15.0
KILL_DEADLINE_S = 15.0
WAIT_S = 0.5
INSPECTS_AT_ONCE = 16
_POLL_S = 0.05


class DockerRuntime:
    """The containers of one ``namespace`` (a label) of one daemon.

    ``directory`` is this driver's own: how far each container's output was copied. ``credentials``: a file of registry logins.
    """

    name = "docker"

    def __init__(self, socket: Path, directory: Path, *, namespace: str = "veil", credentials: Path | None = None) -> None:
        self._socket = socket
        self._directory = directory
        self._namespace = namespace
        self._credentials = credentials
        self._locks = Locks()
        self._inspects = asyncio.Semaphore(INSPECTS_AT_ONCE)

    async def start_driver(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._connection = Connection(self._socket)
        self._images = Images(self._connection, self._credentials, self._directory / "guarded-images")
        self._output = OutputCopies(self._connection, self._directory)
        try:
            async with asyncio.timeout(CONNECT_DEADLINE_S):
                await self._until_it_answers()
        except TimeoutError:
            await self._connection.close()
            raise RuntimeUnavailable(
                f"the Docker API at {self._socket} does not answer", hint="start it, or set VEIL_DOCKER_SOCKET"
            ) from None
        for inspected in await self._inspect_all():
            if view(inspected).state is not ContainerState.CREATED:
                self._follow(inspected)

    async def close(self) -> None:
        await self._output.close()
        await self._connection.close()

    async def version(self) -> str:
        return f"docker {(await self._connection.call('GET', '/version'))['Version']}"

    async def pull(self, image: str, login: Login | None = None) -> str:
        return await self._images.pull(image, login)

    async def import_image(self, name: str, archive: Path) -> str:
        return await self._images.load(name, archive)

    async def images(self) -> "list[Image]":
        return await self._images.list()

    async def remove_image(self, name: str) -> None:
        await self._images.remove(name)

    async def disk(self) -> Disk:
        root = (await self._connection.call("GET", "/info"))["DockerRootDir"]
        usage = await asyncio.to_thread(psutil.disk_usage, root)
        return Disk(total_bytes=usage.used + usage.free, used_bytes=usage.used)

    async def create(self, spec: ContainerSpec) -> Container:
        async with self._locks[check_id(spec.id)]:
            with contextlib.suppress(NotFound):
                return view(await self._inspect(spec.id))
            await self._images.digest(spec.image)
            body = create_body(spec, self._namespace)
            try:
                await self._connection.call("POST", "/containers/create", query={"name": self._name(spec.id)}, body=body)
            except NotFound as error:
                raise ImageUnavailable(f"image {spec.image} is not here any more", hint="pull it again") from error
            return view(await self._inspect(spec.id))

    async def start(self, id: str) -> Container:
        async with self._locks[id]:
            before = await self._inspect(id)
            if view(before).state is ContainerState.RUNNING:
                return view(before)
            await self._output.settled(id)
            labels = before["Config"]["Labels"]
            await asyncio.to_thread(_touch, id, (Path(labels[STDOUT]), Path(labels[STDERR])))
            try:
                await self._connection.call("POST", f"/containers/{self._name(id)}/start")
            except (ContainerFailed, Conflict, NotFound) as error:
                raise ContainerFailed(f"container {id} did not start: {error.message}", hint="check its command") from error
            started = await self._inspect(id)
            self._follow(started)
            return view(started)

    async def stop(self, id: str, *, grace_s: float = 30.0) -> Container:
        await self._end(id, "SIGTERM", grace_s)
        return await self.state(id)

    async def delete(self, id: str) -> None:
        async with self._locks[check_id(id)]:
            query = {"force": "1", "v": "1"}
            async with asyncio.timeout(KILL_DEADLINE_S):
                while True:
                    try:
                        await self._connection.call("DELETE", f"/containers/{self._name(id)}", query=query)
                    except NotFound:
                        break
                    except Conflict:
                        log.debug("container %s is being removed", id)
                        await asyncio.sleep(_POLL_S)
            await self._output.forget(id)

    async def exec(
        self, id: str, command: Sequence[str], *, timeout_s: float = 60.0, max_output_bytes: int = 1 << 20
    ) -> ExecResult:
        await self._running(id)
        name = self._name(id)
        return await execute(self._connection, name, id, command, timeout_s=timeout_s, max_output_bytes=max_output_bytes)

    async def open_exec(self, id: str, command: Sequence[str], *, tty: bool = False) -> ExecSession:
        await self._running(id)
        return await open_session(self._connection, self._name(id), id, command, tty=tty)

    async def open_socket(self, id: str) -> socket.socket:
        pid = (await self._running(id)).pid
        return await asyncio.to_thread(tcp_socket_of, pid)

    async def state(self, id: str) -> Container:
        """What has ended has its last words in its files."""
        found = view(await self._inspect(id))
        if found.state is not ContainerState.RUNNING:
            await self._output.settled(id)
        return found

    async def list(self) -> list[Container]:
        return [view(inspected) for inspected in await self._inspect_all()]

    async def stats(self, id: str) -> Stats:
        await self._running(id)
        said = await self._connection.call(
            "GET", f"/containers/{self._name(id)}/stats", query={"stream": "false", "one-shot": "true"}
        )
        return Stats(
            cpu_seconds=said["cpu_stats"]["cpu_usage"]["total_usage"] / NS_PER_S,
            memory_bytes=int(said["memory_stats"].get("usage") or 0),
            pids=int((said.get("pids_stats") or {}).get("current") or 0),
        )

    async def written(self, id: str) -> int:
        await self._inspect(id)
        sized = await self._connection.call("GET", f"/containers/{self._name(id)}/json", query={"size": "true"})
        return int(sized.get("SizeRw") or 0)

    def events(self) -> AsyncIterator[RuntimeEvent]:
        return event_stream.events(self._connection, self._namespace)

    async def update(self, id: str, *, cpu_milli: int = 0, memory_bytes: int = 0, pids: int = 0) -> None:
        await self._inspect(id)
        body = limits(cpu_milli, memory_bytes, pids)
        try:
            await self._connection.call("POST", f"/containers/{self._name(id)}/update", body=body)
        except NotFound as error:
            raise ContainerFailed(
                f"container {id}: this daemon changes no limits of containers (podman 4)", hint="make it anew, or use dockerd"
            ) from error

    async def _until_it_answers(self) -> None:
        while True:
            try:
                await self.version()
            except RuntimeUnavailable:
                await asyncio.sleep(_POLL_S)
            else:
                return

    def _name(self, id: str) -> str:
        return f"{self._namespace}-{check_id(id)}"

    def _follow(self, inspected: dict[str, Any]) -> None:
        labels, id = inspected["Config"]["Labels"], view(inspected).id
        self._output.follow(id, self._name(id), Path(labels[STDOUT]), Path(labels[STDERR]))

    async def _inspect(self, id: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = await self._connection.call("GET", f"/containers/{self._name(id)}/json")
        except NotFound as error:
            raise NotFound(f"no container {id}", hint="create it first") from error
        return found

    async def _inspect_all(self) -> Sequence[dict[str, Any]]:
        query = {"all": "1", "filters": json.dumps({"label": [f"{NAMESPACE}={self._namespace}"]})}
        listed = await self._connection.call("GET", "/containers/json", query=query)
        found = await asyncio.gather(*(self._inspect_one(one["Id"]) for one in listed))
        return [one for one in found if one is not None]

    async def _inspect_one(self, own_id: str) -> dict[str, Any] | None:
        """None for one that was removed in this moment."""
        async with self._inspects:
            try:
                found: dict[str, Any] = await self._connection.call("GET", f"/containers/{own_id}/json")
            except NotFound:
                return None
        return found

    async def _running(self, id: str) -> Container:
        found = view(await self._inspect(id))
        if found.state is not ContainerState.RUNNING:
            raise ContainerFailed(f"container {id} is not running", hint="start it first")
        return found

    async def _has_ended(self, id: str, patience_s: float) -> bool:
        """Within that time. The daemon's word is not all that is waited for: podman's may never come."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + patience_s
        while (left_s := deadline_s - loop.time()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, WAIT_S)):
                    await self._connection.call(
                        "POST", f"/containers/{self._name(id)}/wait", query={"condition": "not-running"}, timeout_s=WAIT_S + 5
                    )
            if view(await self._inspect(id)).state is not ContainerState.RUNNING:
                return True
        return False

    async def _end(self, id: str, first_signal: str, grace_s: float) -> None:
        """Signal it, kill it after ``grace_s``, return once it has ended. Its image's own stop signal is not asked for."""
        name = self._name(id)
        for number, patience_s in ((first_signal, grace_s), ("SIGKILL", KILL_DEADLINE_S)):
            if view(await self._inspect(id)).state is not ContainerState.RUNNING:
                return
            with contextlib.suppress(Conflict, ContainerFailed):  # it ended in this moment: the next look sees it
                await self._connection.call("POST", f"/containers/{name}/kill", query={"signal": number})
            if await self._has_ended(id, patience_s):
                return
        raise ContainerFailed(f"container {id} does not die", hint="it hangs in the kernel; look at its processes with ps")


def _touch(id: str, logs: tuple[Path, Path]) -> None:
    try:
        for path in logs:
            path.open("ab").close()
    except OSError as error:
        raise ContainerFailed(f"container {id}: its log {error.filename} cannot be written", hint="check the disk") from error
