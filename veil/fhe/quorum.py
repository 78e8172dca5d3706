"""Which subsets of a quorum open a result, and what their openings say together about the bits and about who lies.

Any t members open. A quorum of t + 1 opens t + 1 times, once without each of its members: one wrong partial, whatever it is,
leaves at least one opening honest, so all agree only on the truth. A quorum of t + 2 opens once without each pair: the
openings without the liar are all honest and agree, and the liar is the member that all deviating ones have in common. All of
this is for one liar. Two that work together are in every subset of a quorum of t + 1 and can make all agree on what they like.
"""

import itertools
from collections.abc import Collection, Mapping, Sequence

from veil.errors import CiphertextInvalid, DecryptionDisputed, FheUnavailable
from veil.fhe.ports import Opened
from veil.fhe.threshold import MEMBERS_MAX

Subset = tuple[int, ...]

QUORUM_EXTRA_MAX = 2
"""Members above the threshold in the largest quorum: one to notice a lie, two to name the liar."""


def check_quorum(quorum: Sequence[int], threshold: int) -> Subset:
    """The quorum in canonical order. Raises CiphertextInvalid unless it is threshold to threshold + 2 distinct valid indices."""
    ordered = tuple(sorted(set(quorum)))
    sound = len(ordered) == len(quorum) and all(1 <= member <= MEMBERS_MAX for member in ordered)
    if not sound or not threshold <= len(ordered) <= threshold + QUORUM_EXTRA_MAX:
        raise CiphertextInvalid(
            f"{list(quorum)} is no quorum for a threshold of {threshold}",
            hint=f"name {threshold} to {threshold + QUORUM_EXTRA_MAX} distinct members",
        )
    return ordered


def subsets(quorum: Subset, threshold: int, member: int | None = None) -> list[Subset]:
    """The subsets that open, in lexicographic order; of those only ``member``'s where one is given."""
    found = itertools.combinations(quorum, threshold)
    return [subset for subset in found if member is None or member in subset]


def answered(quorum: Subset, partials: Collection[int], threshold: int) -> Subset:
    """Those of the quorum that have answered. Raises FheUnavailable when they cannot open anything."""
    given = tuple(member for member in quorum if member in partials)
    if len(given) < threshold:
        missing = [member for member in quorum if member not in partials]
        raise FheUnavailable(f"no partial of members {missing}", hint="ask them again, or choose another quorum")
    return given


def verdict(openings: Mapping[Subset, Sequence[int] | None], quorum: Subset, threshold: int) -> Opened:
    """What all openings say; None stands for one that is no bits. Raises DecryptionDisputed when they name no truth."""
    distinct = {None if bits is None else tuple(bits) for bits in openings.values()}
    if len(distinct) == 1 and None not in distinct:
        (bits,) = distinct
        return Opened(bits=list(bits or ()), checked=len(quorum) > threshold, liars=())
    if len(quorum) < threshold + QUORUM_EXTRA_MAX:
        raise _disputed(quorum, threshold)
    suspects = [(member, _without(openings, member)) for member in quorum]
    named = [(member, bits) for member, bits in suspects if bits is not None]
    if len({bits for _, bits in named}) != 1:
        raise _disputed(quorum, threshold)
    liars = (named[0][0],) if len(named) == 1 else ()
    return Opened(bits=list(named[0][1]), checked=True, liars=liars)


def _without(openings: Mapping[Subset, Sequence[int] | None], member: int) -> tuple[int, ...] | None:
    """The bits on which all openings without ``member`` agree, if they do."""
    others = {None if bits is None else tuple(bits) for subset, bits in openings.items() if member not in subset}
    return next(iter(others)) if len(others) == 1 else None


def _disputed(quorum: Subset, threshold: int) -> DecryptionDisputed:
    larger = len(quorum) < threshold + QUORUM_EXTRA_MAX
    return DecryptionDisputed(
        f"the partial decryptions of members {list(quorum)} contradict each other",
        hint="one of them is wrong: ask one member more" if larger else "more than one of them is wrong: decide anew",
    )
