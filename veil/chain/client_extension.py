"""The functions of :mod:`veil.chain.extension` over a real registry."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from veil.chain import logs
from veil.chain.binding import Binding
from veil.chain.records import (
    Bond,
    Dispute,
    EpochParts,
    EpochRecord,
    EpochStatus,
    Owner,
    Right,
    StakeTerms,
    role_id,
)
from veil.chain.sender import SentReceipt
from veil.errors import HeadMismatch
from veil.types import Address, Digest, Epoch, PeerId, Shard

EPOCH_STATUSES = tuple(EpochStatus)
"""The contract's enum, in its order."""


class ExtensionClient:
    """Implements :class:`veil.chain.extension.Extension`."""

    _binding: Binding

    @abstractmethod
    async def _send(self, function: str, *args: Any, value_wei: int = 0) -> SentReceipt: ...

    # namespaces

    async def set_access(self, namespace: bytes, account: Address, rights: Right) -> None:
        await self._send("setAccess", namespace, account, int(rights))

    async def rights_of(self, namespace: bytes, account: Address) -> Right:
        return Right(await self._binding.read("rightsOf", namespace, account))

    async def set_namespace_owner(self, namespace: bytes, owner: Address) -> None:
        await self._send("setNamespaceOwner", namespace, owner)

    async def set_namespace_owner_role(self, namespace: bytes, role: bytes) -> None:
        await self._send("setNamespaceOwnerRole", namespace, role)

    async def namespace_owner(self, namespace: bytes) -> Owner:
        address, role = await self._binding.read("ownerOf", namespace)
        return Owner(Address(address), bytes(role) if any(role) else b"")

    async def set_home_peers(self, namespace: bytes, peers: Sequence[PeerId]) -> None:
        await self._send("setHomePeers", namespace, list(peers))

    async def home_peers_digest(self, namespace: bytes) -> Digest:
        return Digest(bytes(await self._binding.read("homePeersDigest", namespace)))

    async def set_decision_limit(self, namespace: bytes, per_epoch: int) -> None:
        await self._send("setDecisionLimit", namespace, per_epoch)

    async def decision_limit(self, namespace: bytes) -> int:
        return int(await self._binding.read("decisionLimit", namespace))

    async def set_restricted(self, restricted: bool) -> None:
        await self._send("setRestricted", restricted)

    async def is_restricted(self) -> bool:
        return bool(await self._binding.read("isRestricted"))

    # nodes and stakes

    async def set_node_labels(self, peer: PeerId, labels: Digest) -> None:
        await self._send("setNodeLabels", peer, labels)

    async def node_labels(self, peer: PeerId) -> Digest:
        return Digest(bytes(await self._binding.read("nodeLabels", peer)))

    async def stake(self, peer: PeerId, amount_wei: int) -> None:
        await self._send("stake", peer, value_wei=amount_wei)

    async def slash(self, peer: PeerId, amount_wei: int, reason: Digest) -> None:
        await self._send("slash", peer, amount_wei, reason)

    async def pay_pool(self, to: Address, amount_wei: int) -> None:
        await self._send("payPool", to, amount_wei)

    async def withdraw(self, to: Address) -> None:
        await self._send("withdraw", to)

    async def set_stake_terms(self, terms: StakeTerms) -> None:
        values = (terms.min_stake_wei, terms.dispute_bond_wei, terms.unbond_period_s, terms.resolve_period_s)
        await self._send("setStakeTerms", values)

    async def stake_terms(self) -> StakeTerms:
        stake, bond, unbond, resolve = await self._binding.read("stakeTerms")
        return StakeTerms(
            min_stake_wei=int(stake), dispute_bond_wei=int(bond), unbond_period_s=int(unbond), resolve_period_s=int(resolve)
        )

    async def stake_of(self, peer: PeerId) -> Bond:
        amount, unbond_at, disputes = await self._binding.read("stakeOf", peer)
        return Bond(int(amount), int(unbond_at), int(disputes))

    async def credit_of(self, account: Address) -> int:
        return int(await self._binding.read("creditOf", account))

    async def slashed_pool(self) -> int:
        return int(await self._binding.read("slashedPool"))

    # disputes

    async def dispute_placement(
        self,
        shard: Shard,
        sequence: int,
        leaf: Digest,
        proof: Sequence[Digest],
        *,
        accused: PeerId,
        evidence: Digest,
        bond_wei: int,
    ) -> Digest:
        arguments = (shard, sequence, leaf, list(proof), accused, evidence)
        return _dispute_of(await self._send("disputePlacement", *arguments, value_wei=bond_wei))

    async def dispute_append(self, shard: Shard, sequence: int, *, accused: PeerId, evidence: Digest, bond_wei: int) -> Digest:
        return _dispute_of(await self._send("disputeAppend", shard, sequence, accused, evidence, value_wei=bond_wei))

    async def dispute_deployment(self, assignment: Digest, *, accused: PeerId, evidence: Digest, bond_wei: int) -> Digest:
        return _dispute_of(await self._send("disputeDeployment", assignment, accused, evidence, value_wei=bond_wei))

    async def resolve_dispute(self, dispute: Digest, *, upheld: bool, slash_wei: int, reason: Digest) -> None:
        await self._send("resolveDispute", dispute, upheld, slash_wei, reason)

    async def lapse_dispute(self, dispute: Digest) -> None:
        await self._send("lapseDispute", dispute)

    async def get_dispute(self, dispute: Digest) -> Dispute:
        accused, by, deadline, status, bond = await self._binding.read("getDispute", dispute)
        return Dispute(PeerId(bytes(accused)), Address(by), int(deadline), logs.DISPUTE_STATUSES[status], int(bond))

    # key epochs

    async def publish_epoch(self, epoch: Epoch, digest: Digest, parts: EpochParts) -> None:
        await self._send("publishEpoch", epoch, digest, _words(parts))

    async def activate_epoch(self, epoch: Epoch) -> None:
        await self._send("activateEpoch", epoch)

    async def retire_epoch(self, epoch: Epoch) -> None:
        await self._send("retireEpoch", epoch)

    async def get_epoch(self, epoch: Epoch) -> EpochRecord:
        digest, status, words = await self._binding.read("getEpoch", epoch)
        found = EPOCH_STATUSES[status]
        return EpochRecord(found, Digest(bytes(digest)), None if found is EpochStatus.NONE else _parts(words))

    async def active_epoch(self) -> Epoch:
        return Epoch(int(await self._binding.read("activeEpoch")))

    # images

    async def set_image_root(self, root: Digest, images: Digest) -> None:
        await self._send("setImageRoot", root, images)

    async def is_image_allowed(self, manifest: Digest, proof: Sequence[Digest]) -> bool:
        return bool(await self._binding.read("isImageAllowed", manifest, list(proof)))

    async def commit_image(self, name: Digest, manifest: Digest) -> None:
        await self._send("commitImage", name, manifest)

    async def image_manifest(self, name: Digest) -> Digest:
        return Digest(bytes(await self._binding.read("imageManifest", name)))

    # roles and pause

    async def grant_role(self, role: str, account: Address) -> None:
        await self._send("grantRole", role_id(role), account)

    async def revoke_role(self, role: str, account: Address) -> None:
        await self._send("revokeRole", role_id(role), account)

    async def set_role_admin(self, role: str, admin_role: str) -> None:
        await self._send("setRoleAdmin", role_id(role), role_id(admin_role))

    async def has_role(self, role: str, account: Address) -> bool:
        return bool(await self._binding.read("hasRole", role_id(role), account))

    async def set_paused(self, paused: bool) -> None:
        await self._send("pause" if paused else "unpause")


def _words(parts: EpochParts) -> tuple[Any, ...]:
    return (parts.public_key, parts.evaluation_keys, parts.circuits, parts.committee, parts.size, parts.threshold)


def _parts(words: Any) -> EpochParts:
    key, evaluation, circuits, committee, size, threshold = words
    return EpochParts(
        public_key=Digest(bytes(key)),
        evaluation_keys=Digest(bytes(evaluation)),
        circuits=Digest(bytes(circuits)),
        committee=Digest(bytes(committee)),
        size=int(size),
        threshold=int(threshold),
    )


def _dispute_of(receipt: SentReceipt) -> Digest:
    for log in receipt.logs:
        if bytes(log["topics"][0]) == logs.topic_of("DisputeOpened"):
            return Digest(bytes(log["topics"][2]))
    raise HeadMismatch("the receipt of a dispute has no event of it", hint="ask another RPC endpoint")
