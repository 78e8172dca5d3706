"""Evaluator in a supervised child: the node process itself never imports Concrete.

The child is started until its determinism class is one of the epoch's, and again when it dies. One evaluation runs at a
time; each has a deadline, after which the child is ended, because native code cannot be interrupted. An evaluation whose
child died is tried once more in a new one, and not again: inputs that kill children must not do so for ever.
"""

import asyncio
import logging
from collections.abc import Sequence

from tenacity import AsyncRetrying, RetryError, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from veil.errors import CiphertextInvalid, ClassUnreachable, FheUnavailable
from veil.fhe import vectors
from veil.fhe.evalchild import EvalChild
from veil.fhe.material import EpochMaterial
from veil.fhe.ports import Evaluation
from veil.fhe.publickey import PublicKey
from veil.types import Epoch

log = logging.getLogger(__name__)

START_ATTEMPTS = 12
"""Children tried for the right class. With the Fourier plan pinned the first one is in it; without, one in three or so."""

EVALUATIONS_WAITING_MAX = 64
"""More than that many at once are refused."""

START_DEADLINE_S = 60.0
EVALUATE_DEADLINE_S = 30.0

MEMORY_LIMIT_BYTES = 900 << 20
"""Of the child; it needs about half of it."""


class _WrongClass(Exception):
    """This child is sound, but its results differ bit by bit from the epoch's."""


class ChildEvaluator:
    """Implements Evaluator. Raises CiphertextInvalid when the epoch's artifacts are not usable.

    :meth:`start` raises ClassUnreachable when children run but in other classes, FheUnavailable when none stays alive.
    """

    def __init__(
        self,
        material: EpochMaterial,
        *,
        start_attempts: int = START_ATTEMPTS,
        start_deadline_s: float = START_DEADLINE_S,
        evaluate_deadline_s: float = EVALUATE_DEADLINE_S,
        memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
        threads: int | None = None,
    ) -> None:
        """``threads`` of the child, None for one a core. Where several evaluators share a machine, fewer are faster."""
        self.epoch = Epoch(material.epoch)
        self._material = material
        self._material_bytes = material.to_bytes()
        self._key = PublicKey.from_bytes(material.public_key).name
        self._candidates = {circuit.name: circuit.candidates for circuit in material.circuits}
        self._start_attempts = start_attempts
        self._start_deadline_s = start_deadline_s
        self._evaluate_deadline_s = evaluate_deadline_s
        self._memory_limit_bytes = memory_limit_bytes
        self._threads = threads
        self._child: EvalChild | None = None
        self._closed = False
        self._turn = asyncio.Lock()
        self._waiting: set[asyncio.Task[Evaluation]] = set()

    @property
    def child_pid(self) -> int | None:
        """Of the running child, for supervision and status."""
        return self._child.pid if self._child is not None and self._child.alive else None

    @property
    def child_rss_bytes(self) -> int:
        """The most memory that the child reported."""
        return self._child.rss_bytes if self._child is not None else 0

    async def start(self) -> None:
        async with self._turn:
            self._closed = False
            await self._ready()

    async def close(self) -> None:
        self._closed = True
        for task in self._waiting:
            task.cancel()
        await asyncio.gather(*self._waiting, return_exceptions=True)
        child, self._child = self._child, None
        if child is not None:
            await child.kill()

    async def evaluate(self, circuit: str, demand: bytes, telemetry: Sequence[bytes | None]) -> Evaluation:
        """A caller that is cancelled leaves the evaluation running to its end, because ending it would cost the child."""
        self._check(circuit, demand, telemetry)
        if len(self._waiting) >= EVALUATIONS_WAITING_MAX:
            raise FheUnavailable(f"{EVALUATIONS_WAITING_MAX} evaluations are waiting", hint="try again in a few seconds")
        task = asyncio.create_task(self._in_turn(circuit, demand, telemetry), name="evaluate")
        self._waiting.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    def _done(self, task: "asyncio.Task[Evaluation]") -> None:
        self._waiting.discard(task)
        if not task.cancelled():
            task.exception()  # marks it as seen: its caller may be gone

    async def _in_turn(self, circuit: str, demand: bytes, telemetry: Sequence[bytes | None]) -> Evaluation:
        async with self._turn:
            child = await self._ready()
            try:
                return await child.evaluate(circuit, demand, telemetry, self._evaluate_deadline_s)
            except FheUnavailable as error:
                log.warning("%s; trying once more in a new one", error)
            child = await self._ready()
            return await child.evaluate(circuit, demand, telemetry, self._evaluate_deadline_s)

    def _check(self, circuit: str, demand: bytes, telemetry: Sequence[bytes | None]) -> None:
        candidates = self._candidates.get(circuit)
        if candidates is None:
            raise CiphertextInvalid(f"no circuit {circuit!r} in epoch {self.epoch}", hint="use one of the key epoch's circuits")
        vectors.check_candidates(telemetry, candidates)
        vectors.check_demand(demand, self._key)
        for vector in telemetry:
            if vector is not None:
                vectors.check_telemetry(vector, self._key)

    async def _ready(self) -> EvalChild:
        """The living child of the right class, started if need be. Called in turn only."""
        if self._closed:
            raise FheUnavailable("the evaluator is closed", hint="start it first")
        if self._child is not None and self._child.alive:
            return self._child
        attempts = AsyncRetrying(
            stop=stop_after_attempt(self._start_attempts),
            wait=wait_random_exponential(multiplier=0.05, max=1.0),
            retry=retry_if_exception_type((_WrongClass, FheUnavailable)),
        )
        try:
            async for attempt in attempts:
                with attempt:
                    self._child = await self._spawn()
        except RetryError as error:
            reason = error.last_attempt.exception()
            if isinstance(reason, _WrongClass):
                raise ClassUnreachable(
                    f"no evaluator in the epoch's determinism class after {self._start_attempts} starts: {reason}",
                    hint="this machine cannot serve this epoch: let other committee members evaluate, or hold a new ceremony",
                ) from error
            raise FheUnavailable(
                f"no evaluator stayed alive after {self._start_attempts} starts: {reason}",
                hint="see the node's log for what it printed; it needs memory (MEMORY_LIMIT_BYTES)",
            ) from error
        assert self._child is not None
        return self._child

    async def _spawn(self) -> EvalChild:
        child = await EvalChild.spawn(
            self._material_bytes,
            deadline_s=self._start_deadline_s,
            memory_limit_bytes=self._memory_limit_bytes,
            threads=self._threads,
        )
        if child.known not in self._material.classes:
            await child.kill()
            log.info("evaluator is in class %s, not the epoch's: starting another", child.known.hex()[:12])
            raise _WrongClass(f"class {child.known.hex()[:12]}")
        log.info("evaluator %d of epoch %d is ready, class %s", child.pid, self.epoch, child.known.hex()[:12])
        return child
