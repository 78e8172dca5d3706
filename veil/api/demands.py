"""Demand objects: the encrypted figures of a workload for one key epoch, anchored beside it and outside its generation.

A demand that is missing (a transaction that failed after the workload's, an epoch that came later) is made by a home node,
which can read the figures: :meth:`Demands.complete`, level-triggered. For a later epoch it also names the workload's sealed
parts, shared anew to that epoch's committee: the workload's own generation stays as it is.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from veil.api.copies import Copies
from veil.api.resharing import SealedParts, by_home, by_winner, whose_turn
from veil.api.sealing import EpochKeys
from veil.chain.ports import Chain
from veil.errors import Conflict, Refused, Unavailable, VeilError
from veil.identity import Identity
from veil.mesh.ports import Mesh
from veil.store.journal import Binding
from veil.store.projection import Projection
from veil.store.rows import ObjectRow
from veil.types import Digest, Epoch, Generation, ObjectId
from veil.wire.codec import decode, sha256
from veil.wire.objects import KINDS, DemandEnvelope, Envelope, SealedPart, demand_id, encode_envelope

log = logging.getLogger(__name__)

TRIES = 4
BACKOFF_MAX_S = 1.0
AT_ONCE = 16
"""Workloads whose demand is made at a time: parts that nobody has hold up no more than these."""

DEMAND, WORKLOAD = KINDS["Demand"], KINDS["Workload"]


class Demands:
    """Writes, completes and removes Demand objects."""

    def __init__(
        self,
        *,
        identity: Identity,
        chain: Chain,
        mesh: Mesh,
        projection: Projection,
        copies: Copies,
    ) -> None:
        self._identity = identity
        self._chain = chain
        self._mesh = mesh
        self._projection = projection
        self._copies = copies

    def anchored(self, of: ObjectId, epoch: Epoch) -> DemandEnvelope | None:
        """What the chain holds for ``epoch``."""
        row = self._projection.object(DEMAND, demand_id(of, epoch))
        return decode(row.envelope, DemandEnvelope) if row else None

    async def anchor(self, envelope: DemandEnvelope, *, replace: bool = True) -> None:
        """Make the chain's demand this one; unless ``replace``, only while the chain has none of the same resources.

        Raises Conflict when another one keeps taking its place, Unavailable.
        """
        where = demand_id(ObjectId(envelope.object_id), envelope.epoch)
        data = encode_envelope(envelope)
        async for attempt in AsyncRetrying(
            stop=stop_after_attempt(TRIES),
            wait=wait_random_exponential(multiplier=0.1, max=BACKOFF_MAX_S),
            retry=retry_if_exception_type((Unavailable, Conflict)),
            reraise=True,
        ):
            with attempt:
                row = self._projection.object(DEMAND, where)
                stands = row is not None and decode(row.envelope, DemandEnvelope).resources == envelope.resources
                if row is None or (row.envelope != data and (replace or not stands)):
                    await self._chain.apply_object(DEMAND, where, row.generation if row else Generation(0), data)

    async def remove(self, of: ObjectId) -> None:
        """Remove the demands of a deleted workload. One that cannot be removed stays, is of no use and is logged."""
        for epoch in self._projection.epochs():
            where = demand_id(of, epoch.epoch)
            row = self._projection.object(DEMAND, where)
            if row is None:
                continue
            try:
                await self._chain.delete_object(DEMAND, where, row.generation)
            except (Refused, Unavailable) as error:
                log.warning("the demand of %s stays on the chain: %s", of.hex(), error.message)

    async def complete(self, epochs: Sequence[EpochKeys], held: Iterable[Binding] = ()) -> int:
        """Make what is missing for ``epochs`` (the active one, the next one), as far as it is this node's turn; how many.

        It is the turn of the first home node that is alive. With none alive, the node that runs a replica (``held``) acts, if
        its operator may write in the namespace. What cannot be made for one workload keeps no other one from being completed.
        """
        running = {(one.object_id, one.generation): one for one in held if one.state == "bound" and one.template}
        at_once = asyncio.Semaphore(AT_ONCE)

        async def complete(row: ObjectRow, keys: EpochKeys) -> bool:
            async with at_once:
                try:
                    return await self._complete(row, keys, running.get((row.object_id, row.template_generation)))
                except VeilError as error:
                    log.warning("no demand of %s for epoch %d: %s", row.object_id.hex()[:16], keys.epoch, error.message)
                    return False

        rows = self._projection.objects(WORKLOAD)
        return sum(await asyncio.gather(*(complete(row, keys) for keys in epochs for row in rows)))

    async def _complete(self, row: ObjectRow, keys: EpochKeys, binding: Binding | None) -> bool:
        envelope = decode(row.envelope, Envelope)
        found = self.anchored(row.object_id, keys.epoch)
        if row.deleting or not envelope.resources or (found is not None and found.resources == envelope.resources):
            return False
        parts = SealedParts(
            object_id=row.object_id,
            envelope=envelope,
            resources=await self._part(envelope.resources),
            template=await self._part(envelope.template) if envelope.template else None,
        )
        turn = whose_turn(parts.homes, self._copies.is_alive)
        if turn == self._identity.peer_id:
            made = await by_home(parts, keys, self._identity)
        elif turn is None and binding is not None:
            made = await by_winner(parts, keys, binding)
        else:
            return False
        others = self._copies.receivers(parts.homes)
        await self._copies.keep(made.contents, others, parts.homes)
        demand = DemandEnvelope(
            object_id=row.object_id,
            epoch=keys.epoch,
            resources=envelope.resources,
            demand=sha256(made.demand),
            shared_resources=made.digest_of("resources"),
            shared_template=made.digest_of("template"),
        )
        await self.anchor(demand, replace=turn is not None)
        return True

    async def _part(self, digest: bytes) -> SealedPart:
        return decode(await self._mesh.get(Digest(digest)), SealedPart)
