"""Starts meshd, keeps it running, and carries messages to and from it.

The socket is a socket pair whose other end only the child inherits: there is no path that anybody else could open, and the
child sees the end of its parent however that comes. The child is in a session of its own, so that a terminal's Ctrl-C is
the parent's to handle. It is started again, with growing, jittered pauses, for as long as the parent wants a mesh.
"""

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import Callable

from tenacity import AsyncRetrying, retry_if_exception_type, wait_exponential_jitter

from veil.errors import MeshUnavailable, VeilError, WireInvalid
from veil.mesh import control
from veil.mesh.control import Failed, Leave, Ready
from veil.types import Secret
from veil.wire.codec import Message

logger = logging.getLogger(__name__)

READY_TIMEOUT_S = 30.0
"""Importing libp2p takes 2 s on an idle core."""

SETTLED_S = 60.0
"""A child that lived so long and ended is started again without a pause."""

RESTART_MIN_S = 0.2
RESTART_MAX_S = 10.0
LEAVE_TIMEOUT_S = 5.0
LOG_LINE_MAX_BYTES = 64 * 1024

OnMessage = Callable[[Message, bytes], None]


class _EndedEarly(Exception):
    """The child did not live for SETTLED_S."""


class Child:
    """One meshd at a time."""

    def __init__(
        self,
        *,
        setup: Callable[[], control.Setup],
        seed: Secret,
        on_message: OnMessage,
        on_start: Callable[[], None],
        on_end: Callable[[], None],
    ) -> None:
        self.addresses: list[str] = []
        """What the present meshd listens on."""
        self._setup = setup
        self._seed = seed
        self._on_message = on_message
        self._on_start = on_start
        self._on_end = on_end
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._ready: asyncio.Future[None] | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def pid(self) -> int | None:
        """None while no meshd runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self) -> None:
        """Returns once meshd listens. Raises MeshUnavailable with its reason if the first one cannot."""
        self._stopping = False
        self._ready = asyncio.get_running_loop().create_future()
        self._supervisor = asyncio.create_task(self._supervise(), name="veil-meshd supervisor")
        self._supervisor.add_done_callback(self._supervisor_ended)
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                await self._ready
        except TimeoutError as error:
            await self.stop()
            raise MeshUnavailable(f"meshd is not ready after {READY_TIMEOUT_S} s", hint="its log lines say more") from error
        except VeilError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Lets meshd say farewell, then ends it."""
        self._stopping = True
        self.send(Leave())
        if self._process is not None and self.pid is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LEAVE_TIMEOUT_S):
                    await self._process.wait()
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
            self._supervisor = None

    def send(self, head: control.ToMeshd, payload: bytes = b"") -> bool:
        """False while no meshd runs: the message is lost, and :attr:`on_start` says when the next one is there."""
        if self._writer is None or self._writer.is_closing():
            return False
        self._writer.write(control.pack(head, payload))
        return True

    async def drain(self) -> None:
        """Waits until meshd has taken most of what was sent."""
        if self._writer is not None:
            with contextlib.suppress(ConnectionError):
                await self._writer.drain()

    async def _supervise(self) -> None:
        while not self._stopping:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(_EndedEarly),
                wait=wait_exponential_jitter(multiplier=RESTART_MIN_S, max=RESTART_MAX_S, jitter=RESTART_MIN_S),
            ):
                with attempt:
                    await self._live_once()

    async def _live_once(self) -> None:
        """One meshd from its start to its end. Raises _EndedEarly."""
        if self._stopping:
            return
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "veil.mesh.meshd", "--fd", str(theirs.fileno())),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.PIPE,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                    limit=LOG_LINE_MAX_BYTES,
                )
            reader, self._writer = await asyncio.open_connection(sock=ours)
        except BaseException:
            ours.close()
            raise
        logs = asyncio.create_task(self._copy_log(self._process))
        try:
            self.send(self._setup(), self._seed.reveal())
            await self._read_all(reader)
        except (asyncio.IncompleteReadError, ConnectionError):
            if not self._stopping:
                logger.warning("meshd (pid %d) ended and will be started again", self._process.pid)
        except WireInvalid as error:
            logger.error("meshd (pid %d) sent what is no message: %s", self._process.pid, error.message)
        finally:
            await self._end_process(logs)
        if loop.time() - began_s < SETTLED_S:
            raise _EndedEarly

    async def _read_all(self, reader: asyncio.StreamReader) -> None:
        while True:
            head_bytes, payload_bytes = control.unpack_lengths(await reader.readexactly(control.LENGTHS_BYTES))
            head = control.unpack_head(await reader.readexactly(head_bytes))
            payload = await reader.readexactly(payload_bytes)
            if isinstance(head, Ready):
                self.addresses = list(head.addresses)
                self._on_start()
                self._settle(None)
            elif isinstance(head, Failed):
                self._settle(MeshUnavailable(head.message, hint=head.hint))
            else:
                self._on_message(head, payload)

    def _supervisor_ended(self, task: "asyncio.Task[None]") -> None:
        """Cancelled by :meth:`stop`, or failed in a way that no restart mends (no interpreter, no file descriptors)."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.error("meshd cannot be kept running: %s", error, exc_info=error)
            self._settle(MeshUnavailable(f"meshd cannot be started: {error}"))

    def _settle(self, error: VeilError | None) -> None:
        if self._ready is not None and not self._ready.done():
            if error is None:
                self._ready.set_result(None)
            else:
                self._ready.set_exception(error)

    async def _end_process(self, logs: "asyncio.Task[None]") -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._on_end()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        await asyncio.gather(logs, return_exceptions=True)

    @staticmethod
    async def _copy_log(process: asyncio.subprocess.Process) -> None:
        if process.stderr is None:
            return
        while True:
            try:
                line = await process.stderr.readline()
            except ValueError:
                continue  # longer than LOG_LINE_MAX_BYTES: asyncio drops it
            if not line:
                return
            logger.info("meshd: %s", line.decode(errors="replace").rstrip())
