"""The port of what the registry does less often than placing: rights, stakes, disputes, key epochs, images, roles."""

from collections.abc import Sequence
from typing import Protocol

from veil.chain.records import Bond, Dispute, EpochParts, EpochRecord, Owner, Right, StakeTerms
from veil.types import Address, Digest, Epoch, PeerId, Shard

HOME_PEERS_MAX = 3
"""What :meth:`Extension.set_home_peers` takes at most."""

COMMITTEE_MAX = 64
"""Members of the committee of :meth:`Extension.publish_epoch` at most."""

PERIOD_MAX_S = 365 * 24 * 3600
"""The longest unbonding or resolving period of :meth:`Extension.set_stake_terms`."""


class Extension(Protocol):
    """Raises what :class:`veil.chain.ports.Chain` does. Namespaces are the upper 16 bytes of their objects' ids."""

    # namespaces

    async def set_access(self, namespace: bytes, account: Address, rights: Right) -> None:
        """In place of the rights that ``account`` had; by the owner."""
        ...

    async def rights_of(self, namespace: bytes, account: Address) -> Right:
        """ALL for an owner, NONE where there is no namespace."""
        ...

    async def set_namespace_owner(self, namespace: bytes, owner: Address) -> None:
        """By the owner. Rights that it gave end."""
        ...

    async def set_namespace_owner_role(self, namespace: bytes, role: bytes) -> None:
        """Everybody who holds ``role`` (32 bytes) owns it then."""
        ...

    async def namespace_owner(self, namespace: bytes) -> Owner: ...

    async def set_home_peers(self, namespace: bytes, peers: Sequence[PeerId]) -> None:
        """At most HOME_PEERS_MAX registered nodes; by the owner."""
        ...

    async def home_peers_digest(self, namespace: bytes) -> Digest:
        """Keccak-256 over the ABI encoding of the list, zero for none."""
        ...

    async def set_decision_limit(self, namespace: bytes, per_epoch: int) -> None:
        """Decisions of one key epoch for ``namespace`` (16 zero bytes: each that has no limit of its own); 0 for no limit.
        Members of committees count in their journals."""
        ...

    async def decision_limit(self, namespace: bytes) -> int: ...

    async def set_restricted(self, restricted: bool) -> None:
        """Whether only holders of REQUESTER create namespaces."""
        ...

    async def is_restricted(self) -> bool: ...

    # nodes and stakes

    async def set_node_labels(self, peer: PeerId, labels: Digest) -> None:
        """By an administrator or the node's operator; the event says who."""
        ...

    async def node_labels(self, peer: PeerId) -> Digest: ...

    async def stake(self, peer: PeerId, amount_wei: int) -> None:
        """From this account. It is the node's operator's to withdraw after the node has left."""
        ...

    async def slash(self, peer: PeerId, amount_wei: int, reason: Digest) -> None: ...

    async def pay_pool(self, to: Address, amount_wei: int) -> None:
        """Credit ``to`` with a part of what was forfeited; by an administrator."""
        ...

    async def withdraw(self, to: Address) -> None:
        """Everything that this account is credited with."""
        ...

    async def set_stake_terms(self, terms: StakeTerms) -> None: ...

    async def stake_terms(self) -> StakeTerms: ...

    async def stake_of(self, peer: PeerId) -> Bond: ...

    async def credit_of(self, account: Address) -> int:
        """In wei."""
        ...

    async def slashed_pool(self) -> int:
        """In wei."""
        ...

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
        """Over a leaf of the log; gives back the dispute's id. NotFound when it is not in the log."""
        ...

    async def dispute_append(self, shard: Shard, sequence: int, *, accused: PeerId, evidence: Digest, bond_wei: int) -> Digest:
        """Over an append as a whole; gives back the dispute's id. NotFound when it is not in the log."""
        ...

    async def dispute_deployment(self, assignment: Digest, *, accused: PeerId, evidence: Digest, bond_wei: int) -> Digest:
        """Over a note of ``anchor_deployment``; gives back the dispute's id."""
        ...

    async def resolve_dispute(self, dispute: Digest, *, upheld: bool, slash_wei: int, reason: Digest) -> None:
        """By an arbiter. ``slash_wei`` counts where it is upheld."""
        ...

    async def lapse_dispute(self, dispute: Digest) -> None:
        """By anybody, after its deadline."""
        ...

    async def get_dispute(self, dispute: Digest) -> Dispute: ...

    # key epochs

    async def publish_epoch(self, epoch: Epoch, digest: Digest, parts: EpochParts) -> None:
        """Prepared, or active at once if no other is."""
        ...

    async def activate_epoch(self, epoch: Epoch) -> None:
        """Retires every epoch before it."""
        ...

    async def retire_epoch(self, epoch: Epoch) -> None:
        """If it was active, the next one is."""
        ...

    async def get_epoch(self, epoch: Epoch) -> EpochRecord: ...

    async def active_epoch(self) -> Epoch:
        """0 for none."""
        ...

    # images

    async def set_image_root(self, root: Digest, images: Digest) -> None:
        """Allow the images under ``root`` and no others (zero: all). ``images`` is the digest of their list."""
        ...

    async def is_image_allowed(self, manifest: Digest, proof: Sequence[Digest]) -> bool: ...

    async def commit_image(self, name: Digest, manifest: Digest) -> None:
        """``name``: Keccak-256 of the reference without a digest. A zero manifest takes it back."""
        ...

    async def image_manifest(self, name: Digest) -> Digest:
        """Zero for no commitment."""
        ...

    # roles and pause

    async def grant_role(self, role: str, account: Address) -> None:
        """``role`` by its name, ``DEFAULT_ADMIN_ROLE`` for the one over all others."""
        ...

    async def revoke_role(self, role: str, account: Address) -> None: ...

    async def set_role_admin(self, role: str, admin_role: str) -> None:
        """Holders of ``admin_role`` grant and revoke ``role`` from now on."""
        ...

    async def has_role(self, role: str, account: Address) -> bool: ...

    async def set_paused(self, paused: bool) -> None:
        """A guardian pauses, an administrator ends it."""
        ...
