"""The API's client for the command line: one thread, the standard library only, so that `veil get` starts in no time.

Asks the same as :class:`veil.client.api.ApiClient` does. Not for concurrent use: make one for each thread.
"""

import http.client
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import msgspec

from veil.client import requests
from veil.client.answers import Change, change_of, error_of
from veil.client.kinds import Obj, Resource
from veil.client.kubeconfig import KubeConfig
from veil.client.requests import Call
from veil.errors import ConfigInvalid, Conflict, DeadlineExceeded, NodeUnavailable, NotFound, Untrusted
from veil.types import Secret

REQUEST_TIMEOUT_S = 30.0
"""How long one answer may take; a write waits for the chain."""

CONNECT_TIMEOUT_S = 5.0
WATCH_QUIET_MAX_S = 90.0
"""The server sends a bookmark every 30 s: after this long without a byte it is gone."""

RECONNECT_PAUSE_S = 0.2
"""Between the end of one watch and the next, so that a server that ends them at once is not flooded."""

PIECE_BYTES = 65536


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class BlockingClient:
    """Raises the errors that the API answers with; NodeUnavailable when it does not answer, Untrusted for a wrong certificate."""

    def __init__(self, config: KubeConfig) -> None:
        self._config = config
        self._connection: http.client.HTTPConnection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # verbs

    def get(self, resource: Resource, name: str, namespace: str = "", *, table: bool = False) -> Obj:
        return self.send(requests.get(resource, name, namespace, table=table))

    def find(self, resource: Resource, name: str, namespace: str = "") -> Obj | None:
        """As :meth:`get`, None when there is no such object."""
        try:
            return self.get(resource, name, namespace)
        except NotFound:
            return None

    def list(self, resource: Resource, namespace: str = "", *, labels: str = "", fields: str = "", table: bool = False) -> Obj:
        """The list document (or Table): ``items`` (or ``rows``) and the ``metadata.resourceVersion`` to watch from."""
        return self.send(requests.listing(resource, namespace, labels=labels, fields=fields, table=table))

    def watch(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        since: str = "",
        labels: str = "",
        fields: str = "",
        timeout_s: float | None = None,
        table: bool = False,
    ) -> Iterator[Change]:
        """Every change, without end: reconnects when the server ends a watch. A new list's objects come as ADDED again.

        Raises DeadlineExceeded when ``timeout_s`` is over.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left_s = None if deadline is None else deadline - time.monotonic()
            if left_s is not None and left_s <= 0:
                raise DeadlineExceeded(f"{resource.plural}: not there after {timeout_s:g} s")
            call = requests.watching(
                resource,
                namespace,
                since=since,
                labels=labels,
                fields=fields,
                bookmarks=True,
                timeout_s=left_s or 0,
                table=table,
            )
            try:
                for change in self._changes(call, left_s):
                    since = change.object["metadata"].get("resourceVersion", since)
                    if change.type != "BOOKMARK":
                        yield change
            except Conflict:
                since = ""
            time.sleep(RECONNECT_PAUSE_S)

    def _changes(self, call: Call, left_s: float | None) -> Iterator[Change]:
        quiet_s = WATCH_QUIET_MAX_S if left_s is None else min(WATCH_QUIET_MAX_S, left_s + 1)
        try:
            with self._stream(call, quiet_s) as response:
                while line := response.readline():
                    yield change_of(line)
        except NodeUnavailable:
            if left_s is None or left_s > quiet_s:
                raise

    def create(self, resource: Resource, obj: Obj, namespace: str = "", *, dry_run: bool = False) -> Obj:
        return self.send(requests.create(resource, obj, namespace, dry_run=dry_run))

    def apply(self, resource: Resource, obj: Obj, *, manager: str, force: bool = False, dry_run: bool = False) -> Obj:
        """Server-side apply."""
        return self.send(requests.apply(resource, obj, manager=manager, force=force, dry_run=dry_run))

    def patch(self, resource: Resource, name: str, change: Any, namespace: str = "") -> Obj:
        """JSON merge patch."""
        return self.send(requests.patch(resource, name, change, namespace))

    def delete(self, resource: Resource, name: str, namespace: str = "", *, uid: str = "", dry_run: bool = False) -> Obj:
        return self.send(requests.delete(resource, name, namespace, uid=uid, dry_run=dry_run))

    def logs(
        self,
        resource: Resource,
        name: str,
        namespace: str,
        *,
        container: str = "",
        follow: bool = False,
        tail_lines: int | None = None,
        since_s: int | None = None,
        timestamps: bool = False,
        previous: bool = False,
    ) -> Iterator[bytes]:
        """Pieces of log as they come; with ``follow`` until the container is gone."""
        call = requests.logs(
            resource,
            name,
            namespace,
            container=container,
            follow=follow,
            tail_lines=tail_lines,
            since_s=since_s,
            timestamps=timestamps,
            previous=previous,
        )
        with self._stream(call, None if follow else REQUEST_TIMEOUT_S) as response:
            while piece := response.read1(PIECE_BYTES):
                yield piece

    def version(self) -> Obj:
        return self.send(Call(method="GET", path="/version"))

    # transport

    def send(self, call: Call) -> Obj:
        """One request, its JSON answer."""
        for attempt in (1, 2):
            reused = self._connection is not None
            try:
                code, text = self._exchange(call)
                break
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError) as error:
                self.close()
                if not reused or attempt == 2 or call.method != "GET":
                    raise self._unavailable(error) from error
            except (OSError, http.client.HTTPException) as error:
                self.close()
                raise self._unavailable(error) from error
        if code >= 400:
            raise error_of(code, text)
        answer: Obj = msgspec.json.decode(text)
        return answer

    def _exchange(self, call: Call) -> tuple[int, bytes]:
        self._connection = self._connection or self._connect()
        self._request(self._connection, call)
        if self._connection.sock is not None:
            self._connection.sock.settimeout(REQUEST_TIMEOUT_S)
        response = self._connection.getresponse()
        return response.status, response.read()

    def _request(self, connection: http.client.HTTPConnection, call: Call) -> None:
        headers = {"Accept": call.accept, "User-Agent": "veil"}
        if call.body is not None:
            headers["Content-Type"] = call.content_type
        if self._config.token:
            headers["Authorization"] = f"Bearer {self._config.token.reveal().decode()}"
        connection.request(call.method, call.target, body=call.body, headers=headers)

    @contextmanager
    def _stream(self, call: Call, quiet_s: float | None) -> Iterator[http.client.HTTPResponse]:
        connection = self._connect()
        try:
            self._request(connection, call)
            if connection.sock is not None:
                connection.sock.settimeout(quiet_s)
            response = connection.getresponse()
            if response.status >= 400:
                raise error_of(response.status, response.read())
            yield response
        except (OSError, http.client.HTTPException) as error:
            raise self._unavailable(error) from error
        finally:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        if (path := self._config.socket) is not None:
            return _UnixConnection(path, CONNECT_TIMEOUT_S)
        host = self._config.server.removeprefix("https://").split("/", 1)[0]
        return http.client.HTTPSConnection(host, timeout=CONNECT_TIMEOUT_S, context=tls_context(self._config))

    def _unavailable(self, error: Exception) -> Exception:
        return unavailable(self._config, error)


def tls_context(config: KubeConfig) -> ssl.SSLContext:
    """Trusts the kubeconfig's CA and nothing else (the system's CAs when it names none). Raises ConfigInvalid."""
    try:
        context = ssl.create_default_context(cadata=config.ca_pem or None)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigInvalid(f"the kubeconfig's certificate authority is damaged: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def unavailable(config: KubeConfig, error: Exception) -> NodeUnavailable | Untrusted:
    """The node's API could not be talked to: which one, why, and what to do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Untrusted(
            f"{config.server}: the server's certificate is not the kubeconfig's: {error.verify_message}",
            hint="the node was made anew, or somebody else answers: get the kubeconfig from the node again",
        )
    why = "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
    return NodeUnavailable(
        f"the node's API at {config.server} does not answer: {why}",
        hint="is the node running? see `veil dev status`, or name another node's kubeconfig in VEIL_KUBECONFIG",
    )


def unix_config(path: Path, namespace: str = "default") -> KubeConfig:
    """The configuration of a node's unix socket."""
    return KubeConfig(server=f"unix://{path}", namespace=namespace)


def token_config(server: str, ca_pem: str, token: str) -> KubeConfig:
    """The configuration of a TLS door."""
    return KubeConfig(server=server, ca_pem=ca_pem, token=Secret(token.encode()))
