"""The parent's end of one ``veil-evald`` process: start it, ask it, end it. Knows nothing of retries."""

import asyncio
import contextlib
import hashlib
import logging
import os
import sys
from collections import deque
from collections.abc import Sequence

import msgspec

from veil.errors import CiphertextInvalid, DeadlineExceeded, FheUnavailable
from veil.fhe import frames
from veil.fhe.child import EXIT_MEMORY
from veil.fhe.evald import MEMORY_LIMIT_VARIABLE, Answer, Question
from veil.fhe.ports import Evaluation
from veil.types import Digest

log = logging.getLogger(__name__)

INHERITED_VARIABLES = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH")
"""All that a child gets of this process's environment: it needs no settings and no passwords."""

STDERR_LINES = 20
"""Kept of what the child prints, for the message of its death."""


class EvalChild:
    """A running child whose class is known. Make it with :meth:`spawn`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._stderr: deque[str] = deque(maxlen=STDERR_LINES)
        self._reader = asyncio.create_task(self._read_stderr(), name="evald-stderr")
        self.known = Digest(b"")
        self.rss_bytes = 0

    @classmethod
    async def spawn(
        cls, material: bytes, *, deadline_s: float, memory_limit_bytes: int, threads: int | None = None
    ) -> "EvalChild":
        """Starts a child with the epoch's material and waits for its known answer. Raises FheUnavailable, DeadlineExceeded."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "veil.fhe.evald",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=child_environment(threads) | {MEMORY_LIMIT_VARIABLE: str(memory_limit_bytes)},
        )
        child = cls(process)
        try:
            head, _ = await child._ask([b"{}", material], deadline_s)
        except BaseException:
            await child.kill()
            raise
        child.known = Digest(bytes.fromhex(head.known))
        return child

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def evaluate(self, circuit: str, demand: bytes, telemetry: Sequence[bytes | None], deadline_s: float) -> Evaluation:
        """Raises CiphertextInvalid for malformed inputs (the child lives on); FheUnavailable, DeadlineExceeded: it is dead."""
        question = Question(circuit=circuit, present=[vector is not None for vector in telemetry])
        vectors = [vector for vector in telemetry if vector is not None]
        try:
            head, blobs = await self._ask([msgspec.json.encode(question), demand, *vectors], deadline_s)
        except BaseException:
            await self.kill()
            raise
        if head.error:
            raise CiphertextInvalid(head.error, hint=head.hint)
        (result,) = blobs
        return Evaluation(result=result, digest=Digest(hashlib.sha256(result).digest()), wall_s=head.wall_s)

    async def kill(self) -> None:
        """Ends the child now and collects it."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        await self._process.wait()
        await self._reader
        if self._process.stdin is not None:
            self._process.stdin.close()
            with contextlib.suppress(ConnectionError):
                await self._process.stdin.wait_closed()

    async def _ask(self, parts: Sequence[bytes], deadline_s: float) -> tuple[Answer, list[bytes]]:
        try:
            async with asyncio.timeout(deadline_s):
                return await self._exchange(parts)
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"the evaluator gave no answer in {deadline_s:.0f} s", hint="the machine is overloaded: give it fewer tasks"
            ) from error
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            raise FheUnavailable(await self._death(), hint="see the node's log") from error

    async def _exchange(self, parts: Sequence[bytes]) -> tuple[Answer, list[bytes]]:
        requests, responses = self._process.stdin, self._process.stdout
        assert requests is not None
        assert responses is not None
        requests.write(frames.framed(parts))
        await requests.drain()
        (length,) = frames.LENGTH.unpack(await responses.readexactly(frames.LENGTH.size))
        head, *blobs = frames.unpack(await responses.readexactly(length))
        answer = msgspec.json.decode(head, type=Answer)
        self.rss_bytes = max(self.rss_bytes, answer.rss_bytes)
        return answer, blobs

    async def _death(self) -> str:
        code = await self._process.wait()
        await self._reader
        if code == EXIT_MEMORY:
            return "the evaluator passed its memory limit and ended"
        last = self._stderr[-1] if self._stderr else "without a word"
        return f"the evaluator ended with code {code}: {last}"

    async def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            text = line.decode(errors="replace").rstrip()
            self._stderr.append(text)
            log.debug("evald %d: %s", self._process.pid, text)


def child_environment(threads: int | None = None) -> dict[str, str]:
    """What a child that evaluates gets. ``threads`` None: one a core."""
    environment = {name: os.environ[name] for name in INHERITED_VARIABLES if name in os.environ}
    environment |= {"PYTHONWARNINGS": "ignore"}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    return environment
