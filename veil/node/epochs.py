"""The key epoch that this node works with: fetched by the digests that the chain names, verified, made into working parts.

Nothing here falls back: while a part of the epoch is missing, :attr:`EpochKeeper.problem` says which, the node's condition
shows it, and placement waits.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from veil.errors import ConfigInvalid, FheUnavailable, NotFound, Unavailable, Untrusted, VeilError
from veil.fhe.combiner import ThresholdCombiner
from veil.fhe.decryptor import ThresholdDecryptor
from veil.fhe.encryptor import PublicKeyEncryptor
from veil.fhe.evaluator import ChildEvaluator
from veil.fhe.material import EpochMaterial
from veil.identity import Identity
from veil.mesh.ports import Mesh
from veil.node.publication import material_digests, material_of
from veil.placement.ports import EpochParts
from veil.store.journal import Journal
from veil.store.projection import Projection
from veil.store.rows import EpochRow
from veil.types import Digest, Epoch, Secret
from veil.wire.codec import decode, sha256
from veil.wire.nodes import KeyEpoch

log = logging.getLogger(__name__)

EPOCH_FETCH_TIMEOUT_S = 5.0
KEYS_FETCH_TIMEOUT_S = 60.0


class EpochKeeper:
    """Level-triggered: :meth:`sync` makes the chain's active epoch the working one, once everything of it is here."""

    def __init__(
        self,
        *,
        identity: Identity,
        mesh: Mesh,
        projection: Projection,
        journal: Journal,
        public_key_file: Path | None,
        evaluator_threads: int,
        on_parts: Callable[[EpochParts | None], None],
    ) -> None:
        self._identity = identity
        self._mesh = mesh
        self._projection = projection
        self._journal = journal
        self._public_key_file = public_key_file
        self._threads = evaluator_threads or None
        self._on_parts = on_parts
        self._working: Digest | None = None
        self.parts: EpochParts | None = None
        self.problem = "no key epoch was read from the chain yet"

    @property
    def evaluator_pid(self) -> int:
        """Of `veil-evald`; 0 while there is none."""
        evaluator = self.parts.evaluator if self.parts else None
        return (evaluator.child_pid or 0) if isinstance(evaluator, ChildEvaluator) else 0

    async def sync(self) -> None:
        """Raises what kept the epoch from being complete; it is tried again."""
        row = self._projection.active_epoch()
        if row is None:
            self.problem = "the registry has no active key epoch"
            if self._working is not None:
                self._working = None
                await self._replace(None)
            return
        if row.digest == self._working:
            return
        try:
            parts = await self._load(row)
        except VeilError as error:
            self.problem = f"{error.reason}: {error.message}"
            raise
        await self._replace(parts)
        self._working = row.digest
        self.problem = ""
        log.info("working with key epoch %d", parts.key_epoch.epoch)

    async def close(self) -> None:
        """End the evaluator."""
        await self._replace(None)

    async def _replace(self, parts: EpochParts | None) -> None:
        before, self.parts = self.parts, parts
        self._on_parts(parts)
        if before is not None and before.evaluator is not None:
            await before.evaluator.close()

    async def _load(self, row: EpochRow) -> EpochParts:
        epoch = decode(await self._fetch(row.digest, EPOCH_FETCH_TIMEOUT_S), KeyEpoch)
        if epoch.epoch != row.epoch or len(epoch.shares) != len(epoch.committee):
            raise Untrusted(
                f"what the chain names as epoch {row.epoch} is another epoch, or has not one share for each member",
                hint="whoever administers the cluster publishes a new epoch",
            )
        self._check_public_key(epoch)
        blobs = {wanted: await self._fetch(wanted, KEYS_FETCH_TIMEOUT_S) for wanted in material_digests(epoch)}
        material = material_of(epoch, blobs)
        share = await self._share(epoch)
        parts = EpochParts(
            key_epoch=epoch,
            encryptor=PublicKeyEncryptor(material.public_key, material.encoding),
            combiner=ThresholdCombiner(material.public_key, epoch.threshold),
            decryptor=ThresholdDecryptor(share) if share is not None else None,
        )
        return parts if share is None else replace(parts, evaluator=await self._evaluator(material))

    async def _evaluator(self, material: EpochMaterial) -> ChildEvaluator:
        """Last of all, and ended when it does not start: an attempt that fails must leave no process behind."""
        evaluator = ChildEvaluator(material, threads=self._threads)
        try:
            await evaluator.start()
        except BaseException:
            await evaluator.close()
            raise
        return evaluator

    async def _fetch(self, digest: Digest, deadline_s: float) -> bytes:
        try:
            return await self._mesh.get(digest, deadline_s=deadline_s)
        except (NotFound, Unavailable) as error:
            raise FheUnavailable(f"the key epoch's blob {digest.hex()[:16]} cannot be fetched: {error.message}") from error

    def _check_public_key(self, epoch: KeyEpoch) -> None:
        path = self._public_key_file
        if path is None:
            return
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ConfigInvalid(
                f"{path} cannot be read: {error.strerror}", hint="set VEIL_ZAMA_PUBLICKEY_FILE to the epoch's public key"
            ) from error
        if sha256(content) != epoch.public_key:
            raise Untrusted(
                f"{path} is not the public key of epoch {epoch.epoch}",
                hint="unset VEIL_ZAMA_PUBLICKEY_FILE to take the key that the chain names",
            )

    async def _share(self, epoch: KeyEpoch) -> Secret | None:
        """This node's share, from its journal, or opened once and journalled; None when it is not in the committee."""
        if self._identity.peer_id not in epoch.committee:
            return None
        kept = self._journal.shares.get(Epoch(epoch.epoch))
        if kept is None:
            index = epoch.committee.index(self._identity.peer_id)
            sealed = await self._fetch(Digest(epoch.shares[index]), KEYS_FETCH_TIMEOUT_S)
            kept = Secret(self._identity.open(sealed))
            self._journal.shares.put(Epoch(epoch.epoch), kept)
        return kept
