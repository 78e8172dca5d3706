"""One gRPC channel to one containerd, bound to one of its namespaces.

Every call has a deadline and carries the namespace. gRPC's status codes are turned into the house's errors here and nowhere
else: away or silent = RuntimeUnavailable, NOT_FOUND = NotFound, ALREADY_EXISTS = AlreadyExists, the rest = ContainerFailed with
containerd's own words. Reconnecting is the channel's work; its back-off is short because the other end is a local socket.
"""

import re
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from veil.errors import AlreadyExists, Conflict, ContainerFailed, NotFound, RuntimeUnavailable, VeilError
from veil.runtime.containerd.schema import method

CALL_DEADLINE_S = 15.0
LEASE_TTL_S = 3600
MAX_MESSAGE_BYTES = 64 << 20
_OPTIONS = (
    ("grpc.default_authority", "localhost"),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),
)


_BUNDLE_EXISTS = re.compile(r"mkdir (/\S+/io\.containerd\.runtime\.v2\.task/[^/\s]+/[^/\s]+): file exists$")


class ShimGone(RuntimeUnavailable):
    """The container's shim has died and containerd is about to clean up after it: a retry will see that."""


class BundleLeft(ContainerFailed):
    """The directory of a task that containerd does not know is in the way of a new one: it is being removed, or was forgotten."""

    def __init__(self, message: str, bundle: Path) -> None:
        super().__init__(message, hint="restart containerd: it removes what it does not know")
        self.bundle = bundle


class Connection:
    """Calls into ``socket`` in ``namespace``. Must be made and used in one event loop."""

    def __init__(self, socket: Path, namespace: str) -> None:
        self.socket = socket
        self.namespace = namespace
        self._channel = grpc.aio.insecure_channel(f"unix://{socket}", options=_OPTIONS)
        self._methods: dict[tuple[str, str], Any] = {}

    async def close(self) -> None:
        await self._channel.close()

    async def call(
        self, service: str, name: str, /, *, deadline_s: float = CALL_DEADLINE_S, lease: str = "", **fields: Any
    ) -> Any:
        """A unary call. ``fields`` are the request's fields. Raises as the module says."""
        request = method(service, name).request(**fields)
        try:
            return await self._method(service, name)(request, metadata=self._metadata(lease), timeout=deadline_s)
        except grpc.aio.AioRpcError as error:
            raise translate(error, f"{service}.{name}", self.socket) from error

    async def download(self, service: str, name: str, /, *, deadline_s: float, **fields: Any) -> AsyncIterator[Any]:
        """A call answered by a stream."""
        request = method(service, name).request(**fields)
        try:
            async for response in self._method(service, name)(request, metadata=self._metadata(), timeout=deadline_s):
                yield response
        except grpc.aio.AioRpcError as error:
            raise translate(error, f"{service}.{name}", self.socket) from error

    def open(self, service: str, name: str, request: Any = None, *, deadline_s: float | None, lease: str = "") -> Any:
        """The raw gRPC call of a streaming method. Its errors are the caller's to ``translate``."""
        arguments = () if request is None else (request,)
        return self._method(service, name)(*arguments, metadata=self._metadata(lease), timeout=deadline_s)

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[str]:
        """What is made under the lease's id is safe from containerd's garbage collection until the block ends."""
        created = await self.call("leases", "Create", **_lease_fields())
        try:
            yield created.lease.id
        finally:
            await self.call("leases", "Delete", id=created.lease.id)

    def _metadata(self, lease: str = "") -> tuple[tuple[str, str], ...]:
        namespace = ("containerd-namespace", self.namespace)
        return (namespace, ("containerd-lease", lease)) if lease else (namespace,)

    def _method(self, service: str, name: str) -> Any:
        if (service, name) not in self._methods:
            found = method(service, name)
            kind = f"{'stream' if found.client_streaming else 'unary'}_{'stream' if found.server_streaming else 'unary'}"
            self._methods[service, name] = getattr(self._channel, kind)(
                found.path,
                request_serializer=found.request.SerializeToString,
                response_deserializer=found.response.FromString,
            )
        return self._methods[service, name]


def translate(error: grpc.aio.AioRpcError, what: str, socket: Path) -> VeilError:
    """The house's error for a gRPC one."""
    code, details = error.code(), error.details() or ""
    text = f"containerd {what}: {details}"
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
        return RuntimeUnavailable(
            f"containerd at {socket} does not answer ({what}: {code.name})", hint="see whether its process runs, and its log"
        )
    if code is grpc.StatusCode.NOT_FOUND:
        return NotFound(text)
    if code is grpc.StatusCode.ALREADY_EXISTS:
        return AlreadyExists(text)
    if code is grpc.StatusCode.FAILED_PRECONDITION:
        return Conflict(text)
    if (left := _BUNDLE_EXISTS.search(details)) is not None:
        return BundleLeft(text, Path(left[1]))
    if details.endswith("ttrpc: closed"):
        return ShimGone(text, hint="try again")
    if "no space left" in details:
        return ContainerFailed(text, hint="the disk of this node is full: free space on it")
    return ContainerFailed(text, hint="containerd's log may say more")


def _lease_fields() -> dict[str, Any]:
    expiry = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + LEASE_TTL_S))
    return {"id": f"ingest-{secrets.token_hex(8)}", "labels": {"containerd.io/gc.expire": expiry}}
