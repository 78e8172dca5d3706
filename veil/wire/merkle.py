"""The Merkle tree over the leaves of one append, as OpenZeppelin's MerkleProof verifies it (sorted pairs, keccak-256)."""

from collections.abc import Sequence

from eth_hash.auto import keccak

from veil.types import Digest
from veil.wire.codec import encode
from veil.wire.rounds import Leaf


def leaf_hash(leaf: Leaf) -> Digest:
    """Hashed twice, so that no inner node can be shown as a leaf."""
    return Digest(keccak(keccak(encode(leaf))))


def _pair(left: bytes, right: bytes) -> Digest:
    return Digest(keccak(min(left, right) + max(left, right)))


def root_of(leaves: Sequence[Digest]) -> Digest:
    """The root over at least one leaf; an odd node moves up unchanged."""
    level = list(leaves)
    while len(level) > 1:
        level = [_pair(*level[i : i + 2]) if i + 1 < len(level) else level[i] for i in range(0, len(level), 2)]
    return level[0]


def proof_of(leaves: Sequence[Digest], index: int) -> tuple[Digest, ...]:
    """The siblings from leaf ``index`` up to the root."""
    level, proof = list(leaves), []
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):
            proof.append(level[sibling])
        level = [_pair(*level[i : i + 2]) if i + 1 < len(level) else level[i] for i in range(0, len(level), 2)]
        index //= 2
    return tuple(proof)


def is_in(leaf: Digest, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether ``proof`` leads from ``leaf`` to ``root``."""
    node: bytes = leaf
    for sibling in proof:
        node = _pair(node, sibling)
    return node == root
