"""The key epoch that this node works with: fetched by the digests that the chain names, verified, made into working parts.

Nothing here falls back: while a part of the epoch is missing, :attr:`EpochKeeper.problem` says which, the node's condition
shows it, and placement waits. A member whose evaluator cannot be had works with the epoch all the same, and abstains from
decisions (:mod:`veil.node.evaluating`).
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
from veil.identity import Identity
from veil.mesh.ports import Mesh
from veil.node.evaluating import NOT_IN_COMMITTEE, MemberEvaluator
from veil.node.health import Verdict
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
        self._member: MemberEvaluator | None = None
        """On a committee member."""
        self.parts: EpochParts | None = None
        self.problem = "no key epoch was read from the chain yet"

    @property
    def evaluator_pid(self) -> int:
        """Of `veil-evald`; 0 while there is none."""
        return self._member.pid if self._member is not None else 0

    @property
    def fhe(self) -> Verdict:
        """Whether this node does its share of evaluating and decrypting, or why it abstains."""
        if self.parts is None:
            return Verdict(False, "EpochMissing", self.problem)
        return self._member.verdict if self._member is not None else NOT_IN_COMMITTEE

    async def sync(self) -> None:
        """Raises what kept the epoch from being complete; it is tried again."""
        row = self._projection.active_epoch()
        if row is None:
            self.problem = "the registry has no active key epoch"
            if self._working is not None:
                self._working = None
                await self._replace(None, None)
            return
        if row.digest == self._working:
            await self._keep_evaluating()
            return
        try:
            parts, member = await self._load(row)
        except VeilError as error:
            self.problem = f"{error.reason}: {error.message}"
            raise
        await self._replace(parts, member)
        self._working = row.digest
        self.problem = ""
        log.info("working with key epoch %d", parts.key_epoch.epoch)

    async def close(self) -> None:
        """End the evaluator."""
        await self._replace(None, None)

    async def _replace(self, parts: EpochParts | None, member: MemberEvaluator | None) -> None:
        before, self._member = self._member, member
        self._set(parts)
        if before is not None:
            await before.close()

    def _set(self, parts: EpochParts | None) -> None:
        self.parts = parts
        self._on_parts(parts)

    async def _keep_evaluating(self) -> None:
        if self._member is None or self.parts is None:
            return
        await self._member.keep_running()
        if self.parts.evaluator is not self._member.usable:
            self._set(replace(self.parts, evaluator=self._member.usable))

    async def _load(self, row: EpochRow) -> tuple[EpochParts, MemberEvaluator | None]:
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
        if share is None:
            return parts, None
        member = MemberEvaluator(ChildEvaluator(material, threads=self._threads))
        await member.keep_running()
        return replace(parts, evaluator=member.usable), member

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
