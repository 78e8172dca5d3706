"""Proofs lead from every leaf to the root, and from nothing else."""

import random
from typing import Any

import pytest

from veil.types import Digest
from veil.wire.merkle import is_in, proof_of, root_of


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 9, 31, 64, 100])
def test_every_leaf_is_in(size: int) -> None:
    draw = random.Random(size)
    leaves = [Digest(draw.randbytes(32)) for _ in range(size)]
    root = root_of(leaves)
    for index, leaf in enumerate(leaves):
        proof = proof_of(leaves, index)
        assert is_in(leaf, proof, root)
        assert len(proof) <= (size - 1).bit_length()
        assert not is_in(Digest(draw.randbytes(32)), proof, root)
        for place in range(len(proof)):
            changed: list[Any] = list(proof)
            changed[place] = draw.randbytes(32)
            assert not is_in(leaf, changed, root)
        assert not is_in(leaf, [*proof, draw.randbytes(32)], root)
        if proof:
            assert not is_in(leaf, proof[1:], root)


def test_the_root_depends_on_every_leaf() -> None:
    draw = random.Random(1)
    leaves = [Digest(draw.randbytes(32)) for _ in range(9)]
    roots = {root_of(leaves)}
    for index in range(9):
        roots.add(root_of([*leaves[:index], Digest(draw.randbytes(32)), *leaves[index + 1 :]]))
    assert len(roots) == 10
