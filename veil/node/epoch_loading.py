"""One key epoch made into working parts: fetched by the digests that the chain names, verified, on a member with its share.

A share is used by the journal that took it and by no other (:mod:`veil.node.claims`): a member that lost its journal works with
the epoch's public parts, and abstains.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from veil.errors import ConfigInvalid, FheUnavailable, NotFound, Unavailable, Untrusted
from veil.fhe.combiner import ThresholdCombiner
from veil.fhe.decryptor import ThresholdDecryptor
from veil.fhe.encryptor import PublicKeyEncryptor
from veil.fhe.evaluator import ChildEvaluator
from veil.identity import Identity
from veil.mesh.ports import Mesh
from veil.node.claims import Claim, ShareClaims
from veil.node.evaluating import NOT_IN_COMMITTEE, MemberEvaluator
from veil.node.health import Verdict
from veil.node.publication import material_digests, material_of
from veil.placement.ports import EpochParts
from veil.store.journal import Journal
from veil.store.rows import EpochRow
from veil.types import Digest, Epoch, Secret
from veil.wire.codec import decode, sha256
from veil.wire.nodes import KeyEpoch

EPOCH_FETCH_TIMEOUT_S = 5.0
KEYS_FETCH_TIMEOUT_S = 60.0

JOURNAL_LOST = Verdict(
    False,
    "JournalLost",
    "this member abstains until the next key epoch: another journal than the present one took its share, so what that one "
    "released is not known here",
)


@dataclass(slots=True)
class LoadedEpoch:
    """An epoch that is all here. ``member`` only where this node evaluates and decrypts."""

    parts: EpochParts
    member: MemberEvaluator | None = None
    abstains: Verdict | None = None
    """Why a committee member has no share to use."""

    @property
    def verdict(self) -> Verdict:
        """Whether this node does its share of evaluating and decrypting."""
        if self.abstains is not None:
            return self.abstains
        return self.member.verdict if self.member is not None else NOT_IN_COMMITTEE

    async def keep_evaluating(self) -> bool:
        """See to the evaluator; whether ``parts`` are others now."""
        if self.member is None:
            return False
        await self.member.keep_running()
        if self.parts.evaluator is self.member.usable:
            return False
        self.parts = replace(self.parts, evaluator=self.member.usable)
        return True

    async def close(self) -> None:
        """End the evaluator. Everything else stays usable."""
        if self.member is not None:
            await self.member.close()
            self.member, self.parts = None, replace(self.parts, evaluator=None)


class EpochLoader:
    """Makes :class:`LoadedEpoch` of what the chain names. ``on_claim`` is called when the registry has to be told something."""

    def __init__(
        self,
        *,
        identity: Identity,
        mesh: Mesh,
        journal: Journal,
        claims: ShareClaims,
        public_key_file: Path | None,
        evaluator_threads: int,
        on_claim: Callable[[], None],
    ) -> None:
        self._identity = identity
        self._mesh = mesh
        self._journal = journal
        self._claims = claims
        self._public_key_file = public_key_file
        self._threads = evaluator_threads or None
        self._on_claim = on_claim

    async def load(self, row: EpochRow) -> LoadedEpoch:
        """Raises Unavailable for what cannot be had yet, Untrusted and ConfigInvalid for what is not what it should be."""
        epoch = decode(await self._fetch(row.digest, EPOCH_FETCH_TIMEOUT_S), KeyEpoch)
        _check(epoch, row)
        self._check_public_key(epoch)
        is_member = self._identity.peer_id in epoch.committee
        if is_member:
            self._claim(Epoch(epoch.epoch))
        blobs = {wanted: await self._fetch(wanted, KEYS_FETCH_TIMEOUT_S) for wanted in material_digests(epoch)}
        material = material_of(epoch, blobs)
        parts = EpochParts(
            key_epoch=epoch,
            encryptor=PublicKeyEncryptor(material.public_key, material.encoding),
            combiner=ThresholdCombiner(material.public_key, epoch.threshold),
        )
        if not is_member:
            return LoadedEpoch(parts)
        claim = self._claims.of(Epoch(epoch.epoch))
        if claim is Claim.ANOTHERS:
            return LoadedEpoch(parts, abstains=JOURNAL_LOST)
        if claim is not Claim.OURS:
            raise FheUnavailable(
                f"the registry does not name this node's journal for its share of epoch {epoch.epoch} yet",
                hint="the node publishes it by itself; its operator's account needs funds for that",
            )
        parts = replace(parts, decryptor=ThresholdDecryptor(await self._share(epoch)))
        member = MemberEvaluator(ChildEvaluator(material, threads=self._threads))
        await member.keep_running()
        return LoadedEpoch(replace(parts, evaluator=member.usable), member)

    def _claim(self, epoch: Epoch) -> None:
        """Done first: the registry is told while the large blobs are on their way."""
        if self._claims.of(epoch) is Claim.NOBODYS:
            self._claims.claim(epoch)
            self._on_claim()

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

    async def _share(self, epoch: KeyEpoch) -> Secret:
        """This node's share, from its journal, or opened once and journalled."""
        kept = self._journal.shares.get(Epoch(epoch.epoch))
        if kept is None:
            index = epoch.committee.index(self._identity.peer_id)
            sealed = await self._fetch(Digest(epoch.shares[index]), KEYS_FETCH_TIMEOUT_S)
            kept = Secret(self._identity.open(sealed))
            self._journal.shares.put(Epoch(epoch.epoch), kept)
        return kept


def _check(epoch: KeyEpoch, row: EpochRow) -> None:
    if epoch.epoch != row.epoch or len(epoch.shares) != len(epoch.committee):
        raise Untrusted(
            f"what the chain names as epoch {row.epoch} is another epoch, or has not one share for each member",
            hint="whoever administers the cluster publishes a new epoch",
        )
    if epoch.mode == "designated" and (len(epoch.committee), epoch.threshold) != (1, 1):
        raise Untrusted(
            f"epoch {epoch.epoch} calls itself designated and has {len(epoch.committee)} members",
            hint="whoever administers the cluster publishes a new epoch",
        )
