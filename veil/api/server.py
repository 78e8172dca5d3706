"""The node's API on its doors: TLS for people and tools, unix sockets for this machine and for the controllers.

All doors show one store. The controllers' door is narrower (only what this node is in charge of) and wider (Instances can be
made and removed there, status written).
"""

import asyncio
import os
import socket
import ssl
import stat
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from veil.api import access, openapi, watches
from veil.api.app import Door
from veil.api.discovery import documents
from veil.api.ports import Auditor, Caller, Drainer, ExecSource, LogSource, ObjectWriter
from veil.api.verbs import Verbs
from veil.errors import ConfigInvalid
from veil.manifest.schemas import KINDS as SCHEMA_KINDS
from veil.manifest.schemas import schema
from veil.store.objects import Obj, ObjectStore
from veil.types import Clock, Random, Secret, SystemClock, SystemRandom

SHUTDOWN_TIMEOUT_S = 2.0
"""How long answers under way may take when the server closes; watches and logs end at once."""

SOCKET_PATH_MAX_BYTES = 107


class ApiServer:
    """Serves a store.

    Listen on as many doors as wanted, then :meth:`close` them all.
    """

    def __init__(
        self,
        store: ObjectStore,
        writer: ObjectWriter,
        logs: LogSource,
        auditor: Auditor,
        drainer: Drainer,
        execs: ExecSource,
        *,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        self._store = store
        self._logs = logs
        self._auditor = auditor
        self._drainer = drainer
        self._execs = execs
        self._clock = clock or SystemClock()
        self._verbs = Verbs(store, writer, self._clock, random or SystemRandom())
        self._discovery = documents()
        self._openapi = openapi.documents({kind: schema(kind) for kind in SCHEMA_KINDS})
        self._closing = watches.Signal()
        self._controllers: list[Door] = []
        self._runners: list[web.AppRunner] = []
        self._sockets: list[Path] = []

    async def listen_tls(self, host: str, port: int, context: ssl.SSLContext, token: Secret) -> int:
        """For people and tools, with a bearer token. Gives back the port (``port`` 0: one that was free)."""
        app = self._door(Caller(name="users")).application(access.bearer(token))
        runner = await self._run(app)
        try:
            await web.TCPSite(runner, host, port, ssl_context=context).start()
        except OSError as error:
            raise ConfigInvalid(f"the API cannot listen on {host}:{port}: {error}", hint="set VEIL_API_LISTEN") from error
        bound: int = runner.addresses[0][1]
        return bound

    async def listen_unix(self, path: Path) -> None:
        """For this machine: who may open the socket (mode 0600) is let in."""
        await self._listen(path, self._door(Caller(name="local")))

    async def listen_controllers(self, path: Path, visible: Callable[[Obj], bool]) -> None:
        """For this node's controllers. After a change of what ``visible`` says call :meth:`reset_watches`."""
        door = self._door(Caller(name="controllers", controllers=True, visible=visible))
        self._controllers.append(door)
        await self._listen(path, door)

    def reset_watches(self) -> None:
        """This node is in charge of other objects now: the controllers' watches end, so that they list again."""
        for door in self._controllers:
            door.reset.fire()

    async def close(self) -> None:
        """End watches and logs, finish what is under way, remove the sockets."""
        self._closing.fire()
        await asyncio.gather(*(runner.cleanup() for runner in self._runners))
        self._runners.clear()
        for path in self._sockets:
            path.unlink(missing_ok=True)
        self._sockets.clear()

    def _door(self, caller: Caller) -> Door:
        return Door(
            caller,
            store=self._store,
            verbs=self._verbs,
            log_source=self._logs,
            auditor=self._auditor,
            drainer=self._drainer,
            exec_source=self._execs,
            clock=self._clock,
            discovery=self._discovery,
            openapi=self._openapi,
            closing=self._closing,
        )

    async def _listen(self, path: Path, door: Door) -> None:
        runner = await self._run(door.application())
        await web.SockSite(runner, bind_private(path)).start()
        self._sockets.append(path)

    async def _run(self, app: web.Application) -> web.AppRunner:
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
        await runner.setup()
        self._runners.append(runner)
        return runner


def bind_private(path: Path) -> socket.socket:
    """A unix socket that its owner alone can open; it gets its mode before it listens. Raises ConfigInvalid."""
    if len(os.fsencode(path)) > SOCKET_PATH_MAX_BYTES:
        raise ConfigInvalid(
            f"{path}: longer than SOCKET_PATH_MAX_BYTES={SOCKET_PATH_MAX_BYTES}", hint="use a directory with a shorter path"
        )
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists() and stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()
        bound.bind(str(path))
        path.chmod(0o600)
    except OSError as error:
        bound.close()
        raise ConfigInvalid(f"{path}: cannot be listened on: {error}", hint="is another node using this directory?") from error
    return bound
