"""TEST ONLY: the ports of the API without a chain and without containers, with faults on demand.

Nothing in ``veil`` imports this module. What is written is given generations and uids as a chain would, at once.
"""

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from veil.api.assemble import API_VERSION
from veil.api.server import ApiServer
from veil.client.api import ApiClient
from veil.client.blocking import unix_config
from veil.errors import NotFound, VeilError
from veil.runtime.fake import FakeSession
from veil.runtime.ports import ExecSession
from veil.store.objects import RV_BLOCK, Obj, ObjectStore


class FakeWriter:
    """Implements :class:`veil.api.ports.ObjectWriter` in memory. Errors put into ``faults`` are raised by the next calls."""

    def __init__(self, on_deleted: Callable[[Obj], object] | None = None) -> None:
        self.faults: list[VeilError] = []
        self.applied: list[Obj] = []
        self.deleted: list[Obj] = []
        self.cordoned: list[tuple[str, bool]] = []
        self.hold = asyncio.Event()
        """Clear it to keep writes waiting."""
        self.hold.set()
        self._on_deleted = on_deleted
        self._generations: dict[tuple[str, str, str], int] = {}

    async def apply(self, obj: Obj, live: Obj | None) -> Obj:
        await self.hold.wait()
        self._fail()
        self.applied.append(obj)
        metadata = obj["metadata"]
        key = (obj["kind"], metadata.get("namespace", ""), metadata["name"])
        self._generations[key] = self._generations.get(key, 0) + 1
        kept = {part: metadata[part] for part in ("name", "namespace", "labels") if part in metadata}
        uid = live["metadata"]["uid"] if live else str(uuid.uuid4())
        anchored = {"uid": uid, "generation": self._generations[key]}
        return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": kept | anchored, "spec": obj["spec"]}

    async def delete(self, obj: Obj) -> None:
        await self.hold.wait()
        self._fail()
        self.deleted.append(obj)
        if self._on_deleted is not None:
            self._on_deleted(obj)

    async def cordon(self, node: Obj, *, unschedulable: bool) -> None:
        await self.hold.wait()
        self._fail()
        self.cordoned.append((node["metadata"]["name"], unschedulable))

    def _fail(self) -> None:
        if self.faults:
            raise self.faults.pop(0)


class FakeLogs:
    """Implements :class:`veil.api.ports.LogSource`: lines by instance name."""

    def __init__(self) -> None:
        self.lines: dict[str, list[bytes]] = {}
        self.asked: list[dict[str, object]] = []
        self.more = asyncio.Event()
        """What a follower waits for before it looks at ``lines`` again."""
        self.finished = False
        """Whether followers come to the end of the log."""

    async def logs(
        self,
        instance: Obj,
        *,
        container: str,
        follow: bool,
        tail_lines: int | None,
        since_s: float | None,
        timestamps: bool = False,
        previous: bool = False,
    ) -> AsyncIterator[bytes]:
        name = instance["metadata"]["name"]
        self.asked.append({"name": name, "container": container, "follow": follow, "tail": tail_lines, "since": since_s})
        self.asked[-1] |= {name: True for name, asked in (("timestamps", timestamps), ("previous", previous)) if asked}
        if name not in self.lines:
            raise NotFound(f"{name} has no log yet", hint="wait until it runs")
        sent = max(0, len(self.lines[name]) - tail_lines) if tail_lines is not None else 0
        while True:
            for line in self.lines[name][sent:]:
                yield line
            sent = len(self.lines[name])
            if not follow or self.finished:
                return
            await self.more.wait()
            self.more = asyncio.Event()


class FakeExecs:
    """Implements :class:`veil.api.ports.ExecSource`: every command gives its input back in upper case, and ends with 7."""

    def __init__(self) -> None:
        self.opened: list[tuple[str, str, tuple[str, ...], bool, FakeSession]] = []
        self.faults: list[VeilError] = []

    async def open_exec(self, instance: Obj, *, container: str, command: Sequence[str], tty: bool) -> ExecSession:
        if self.faults:
            raise self.faults.pop(0)
        session = FakeSession()
        self.opened.append((instance["metadata"]["name"], container, tuple(command), tty, session))
        return session


class FakeDrainer:
    """Implements :class:`veil.api.ports.Drainer`: each call gives back the next of ``left``, then nothing."""

    def __init__(self) -> None:
        self.left: list[list[Obj]] = []
        self.asked: list[str] = []

    def drain(self, node: Obj) -> Obj:
        self.asked.append(node["metadata"]["name"])
        return {"kind": "Drain", "apiVersion": API_VERSION, "left": self.left.pop(0) if self.left else []}


class FakeAuditor:
    """Implements :class:`veil.api.ports.Auditor`: reports and transcripts by a placement's name."""

    def __init__(self) -> None:
        self.reports: dict[str, Obj] = {}
        self.transcripts: dict[str, Obj] = {}

    async def audit(self, name: str) -> Obj:
        return self._found(self.reports, name)

    async def transcript(self, name: str) -> Obj:
        return self._found(self.transcripts, name)

    def _found(self, known: dict[str, Obj], name: str) -> Obj:
        if name not in known:
            raise NotFound(f'placements.veil.dev "{name}" not found', hint="`veil get placements` lists the newest")
        return known[name]


class FakeNode:
    """A real server on unix sockets over a real object store in memory, with the fakes above behind it.

    The default namespace is there. Names in ``hidden`` do not exist for the controllers.
    """

    def __init__(self, directory: Path) -> None:
        counter = itertools.count(1, RV_BLOCK)
        self.store = ObjectStore(None, reserve_rv=lambda count: next(counter))
        self.writer = FakeWriter(self._forget)
        self.logs = FakeLogs()
        self.auditor = FakeAuditor()
        self.drainer = FakeDrainer()
        self.execs = FakeExecs()
        self.server = ApiServer(self.store, self.writer, self.logs, self.auditor, self.drainer, self.execs)
        self.hidden: set[str] = set()
        self.socket = directory / "api.sock"
        self.controllers_socket = directory / "controllers.sock"

    async def start(self) -> None:
        self.store.put({"apiVersion": API_VERSION, "kind": "Namespace", "metadata": {"name": "default"}, "spec": {}})
        await self.server.listen_unix(self.socket)
        await self.server.listen_controllers(self.controllers_socket, lambda obj: obj["metadata"]["name"] not in self.hidden)

    async def close(self) -> None:
        await self.server.close()
        self.store.close()

    def client(self, *, controllers: bool = False) -> ApiClient:
        return ApiClient(unix_config(self.controllers_socket if controllers else self.socket))

    def _forget(self, obj: Obj) -> None:
        self.store.delete(obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"])


def a_workload(name: str = "hello", **spec: Any) -> Obj:
    """A Workload as a user writes it."""
    container = {"name": "main", "image": "busybox", "resources": {"requests": {"cpu": "250m", "memory": "64Mi"}}}
    return {
        "apiVersion": API_VERSION,
        "kind": "Workload",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
        "spec": {"replicas": 2, "template": {"containers": [container]}, **spec},
    }


def a_node(name: str = "node-1", *, cordoned: bool = False) -> Obj:
    """A Node as the node has it."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {"unschedulable": cordoned, "taints": {"dedicated": "gpu"}},
        "status": {
            "phase": "Cordoned" if cordoned else "Active",
            "peerID": name,
            "conditions": [{"type": "Reachable", "status": "True", "reason": "Alive", "message": ""}],
        },
    }


def an_instance(name: str = "hello-1-0", phase: str = "Running", **status: Any) -> Obj:
    """An Instance as the node has it."""
    owner, generation, replica = name.rsplit("-", 2)
    return {
        "apiVersion": API_VERSION,
        "kind": "Instance",
        "metadata": {"name": name, "namespace": "default", "labels": {"veil.dev/workload": owner}},
        "spec": {"workload": owner, "generation": int(generation), "replica": int(replica)},
        "status": {"phase": phase, "ready": phase == "Running", "restarts": 0, **status},
    }
