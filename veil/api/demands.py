"""Demand objects: the encrypted figures of a workload for one key epoch, anchored beside it and outside its generation.

A demand that is missing (a transaction that failed after the workload's, an epoch that came later) is made by a home node,
which can read the figures: :meth:`Demands.complete`, level-triggered.
"""

import logging
from collections.abc import Callable

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from veil.api.copies import COPIES, keep, receivers
from veil.api.sealing import EpochKeys, encrypt_demand
from veil.chain.ports import Chain
from veil.errors import Conflict, Forbidden, NotFound, Refused, Unavailable
from veil.identity import Identity
from veil.mesh.ports import Mesh
from veil.store.projection import Projection
from veil.types import Digest, Epoch, Generation, ObjectId, Random
from veil.wire.codec import decode, sha256
from veil.wire.objects import KINDS, DemandEnvelope, Envelope, Resources, SealedPart, demand_id, encode_envelope
from veil.wire.sealed import home_key, open_part

log = logging.getLogger(__name__)

TRIES = 4
BACKOFF_MAX_S = 1.0
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
        keys: Callable[[], EpochKeys | None],
        random: Random,
        copies: int = COPIES,
    ) -> None:
        self._identity = identity
        self._chain = chain
        self._mesh = mesh
        self._projection = projection
        self._keys = keys
        self._random = random
        self._copies = copies

    def anchored(self, of: ObjectId, epoch: Epoch) -> DemandEnvelope | None:
        """What the chain holds for ``epoch``."""
        row = self._projection.object(DEMAND, demand_id(of, epoch))
        return decode(row.envelope, DemandEnvelope) if row else None

    async def anchor(self, of: ObjectId, epoch: Epoch, resources: Digest, demand: Digest) -> None:
        """Make the chain's demand this one. Raises Conflict when another one keeps taking its place, Unavailable."""
        where = demand_id(of, epoch)
        data = encode_envelope(DemandEnvelope(object_id=of, epoch=epoch, resources=resources, demand=demand))
        async for attempt in AsyncRetrying(
            stop=stop_after_attempt(TRIES),
            wait=wait_random_exponential(multiplier=0.1, max=BACKOFF_MAX_S),
            retry=retry_if_exception_type((Unavailable, Conflict)),
            reraise=True,
        ):
            with attempt:
                row = self._projection.object(DEMAND, where)
                if row is None or row.envelope != data:
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

    async def complete(self) -> int:
        """Make what is missing for the active epoch, as far as this node is a home node; how many were made.

        Parts sealed for another epoch's committee are left alone: they must be sealed anew, which is a new generation.
        """
        keys, made = self._keys(), 0
        if keys is None:
            return made
        for row in self._projection.objects(WORKLOAD):
            envelope = decode(row.envelope, Envelope)
            found = self.anchored(row.object_id, keys.epoch)
            if row.deleting or not envelope.resources or (found and found.resources == envelope.resources):
                continue
            digest = Digest(envelope.resources)
            resources = await self._open(digest, keys.epoch)
            if resources is None:
                continue
            content = await encrypt_demand(resources, row.object_id, keys, digest)
            await keep(self._mesh, [content], receivers(self._mesh, (), self._random), (), self._copies)
            await self.anchor(row.object_id, keys.epoch, digest, sha256(content))
            made += 1
        return made

    async def _open(self, digest: Digest, epoch: Epoch) -> Resources | None:
        try:
            part = decode(await self._mesh.get(digest), SealedPart)
            if part.epoch != epoch:
                return None
            return decode(open_part(part, home_key(part, self._identity)), Resources)
        except (Forbidden, NotFound, Unavailable):
            return None
