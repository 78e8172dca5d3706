"""A server on a unix socket over a real object store, with a writer that needs no chain."""

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from veil.api.fake import FakeLogs, FakeWriter
from veil.api.server import ApiServer
from veil.client.api import ApiClient
from veil.client.blocking import unix_config
from veil.store.objects import Obj, ObjectStore


def new_store() -> ObjectStore:
    counter = itertools.count(1, 1000)
    return ObjectStore(None, reserve_rv=lambda count: next(counter))


def workload(name: str = "hello", **spec: Any) -> Obj:
    container = {"name": "main", "image": "busybox", "resources": {"requests": {"cpu": "250m", "memory": "64Mi"}}}
    return {
        "apiVersion": "veil.dev/v1alpha1",
        "kind": "Workload",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
        "spec": {"replicas": 2, "template": {"containers": [container]}, **spec},
    }


def instance(name: str = "hello-1-0", phase: str = "Running", **status: Any) -> Obj:
    owner, generation, replica = name.rsplit("-", 2)
    return {
        "apiVersion": "veil.dev/v1alpha1",
        "kind": "Instance",
        "metadata": {"name": name, "namespace": "default", "labels": {"veil.dev/workload": owner}},
        "spec": {"workload": owner, "generation": int(generation), "replica": int(replica)},
        "status": {"phase": phase, "ready": phase == "Running", "restarts": 0, **status},
    }


@dataclass
class Served:
    """A running server and its parts."""

    directory: Path
    store: ObjectStore
    writer: FakeWriter
    logs: FakeLogs
    server: ApiServer
    hidden: set[str] = field(default_factory=set)
    """Names that the controllers do not see."""

    @property
    def socket(self) -> Path:
        return self.directory / "api.sock"

    @property
    def controllers_socket(self) -> Path:
        return self.directory / "controllers.sock"

    @asynccontextmanager
    async def client(self, *, controllers: bool = False) -> AsyncIterator[ApiClient]:
        async with ApiClient(unix_config(self.controllers_socket if controllers else self.socket)) as client:
            yield client


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    store = new_store()
    store.put({"apiVersion": "veil.dev/v1alpha1", "kind": "Namespace", "metadata": {"name": "default"}, "spec": {}})
    writer = FakeWriter(lambda obj: store.delete(obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"]))
    logs = FakeLogs()
    whole = Served(tmp_path, store, writer, logs, ApiServer(store, writer, logs))
    await whole.server.listen_unix(whole.socket)
    await whole.server.listen_controllers(whole.controllers_socket, lambda obj: obj["metadata"]["name"] not in whole.hidden)
    yield whole
    await whole.server.close()
    store.close()


@pytest.fixture
def make() -> Iterator[Any]:
    """The builders of objects: ``make.workload``, ``make.instance``, ``make.store``."""

    class Make:
        workload = staticmethod(workload)
        instance = staticmethod(instance)
        store = staticmethod(new_store)

    yield Make
