"""Which circuits there are: a profile says how finely candidates are told apart, a shape what the result means.

* ``default`` tells six levels apart; ``precise`` has finer levels too and chooses exactly one (:mod:`veil.fhe.circuits.precise`).
* ``choose`` marks the best candidates (:mod:`veil.fhe.circuits.choose`), ``rank`` puts them in an order
  (:mod:`veil.fhe.circuits.rank`).

All circuits of an epoch have the same parameters and share one key set.
"""

from collections.abc import Sequence

import msgspec

from veil.errors import ConfigInvalid
from veil.fhe.material import Profile, Shape

CANDIDATES_MAX = 64

PAIRS_MAX = 16
"""Up to so many candidates a rank is a strict order, from all pairs: its sums have four bits. Beyond, ranks are classes."""

RANK_MINIMA = 2
"""Beyond PAIRS_MAX a rank tells the best from the second best, and these from the others that fit: three classes.

One more minimum would make the result of 64 candidates larger than a message of the mesh.
"""

CLASSES_MIN = 27
"""Candidates of the smallest rank by classes: a shorter result could be taken for one of pairs, by its length."""

GROUP = 8
"""Candidates in a group of the search for the first of several marks."""


class CircuitSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One circuit of an epoch, with places for ``candidates``."""

    profile: Profile
    shape: Shape
    candidates: int

    @property
    def name(self) -> str:
        """Unique in an epoch, for example ``default-choose-4``."""
        return f"{self.profile}-{self.shape}-{self.candidates}"

    @property
    def result_bits(self) -> int:
        """Bits of a result; :mod:`veil.fhe.decision` reads them."""
        if self.shape == "choose":
            return self.candidates + 1
        return self.candidates * (rank_bits(self.candidates) + 1)


def rank_bits(candidates: int) -> int:
    """Bits that say of a candidate where it is in the order: its rank's digits, or one for each minimum."""
    return (candidates - 1).bit_length() if candidates <= PAIRS_MAX else RANK_MINIMA


def group_size(candidates: int) -> int:
    """Candidates in a group of the profile ``precise``: all of them while their number fits a look-up."""
    return candidates if candidates <= GROUP else GROUP


def check_spec(spec: CircuitSpec) -> None:
    """Raises ConfigInvalid for circuits that do not exist."""
    if problem := _problem(spec):
        raise ConfigInvalid(f"there is no circuit {spec.name}", hint=problem)


def _problem(spec: CircuitSpec) -> str | None:
    """Why it does not exist; None for one that does."""
    if not 2 <= spec.candidates <= CANDIDATES_MAX:
        return f"sizes are 2 to {CANDIDATES_MAX} candidates"
    if spec.profile == "precise" and spec.candidates % group_size(spec.candidates):
        return f"sizes of 'precise' are up to {GROUP}, or multiples of {GROUP}"
    if spec.shape == "rank" and PAIRS_MAX < spec.candidates < CLASSES_MIN:
        return f"sizes of a rank are up to {PAIRS_MAX}, or {CLASSES_MIN} and more"
    return None


def circuits_of(profiles: Sequence[Profile], sizes: Sequence[int]) -> tuple[CircuitSpec, ...]:
    """All circuits of these profiles and sizes, those that choose first. Raises ConfigInvalid where none chooses."""
    choosing = [CircuitSpec(profile, "choose", size) for profile in profiles for size in sizes]
    for spec in choosing:
        check_spec(spec)
    ranking = [CircuitSpec(spec.profile, "rank", spec.candidates) for spec in choosing]
    return (*choosing, *(spec for spec in ranking if _problem(spec) is None))


def lookups(spec: CircuitSpec) -> int:
    """Programmable bootstraps of one evaluation, without those of wide outputs."""
    count = spec.candidates
    tree = count - 1
    finer = spec.profile == "precise"
    if spec.shape == "rank" and count <= PAIRS_MAX:
        return count + (1 + finer) * (count * tree // 2) + 3 * finer * count + count * (rank_bits(count) + 1)
    if spec.shape == "rank":
        minima = RANK_MINIMA * (tree + count)
        return count + minima + (2 * count if finer else (RANK_MINIMA - 1) * count) + count
    if finer:
        groups = count // group_size(count)
        return count + tree + 1 + 2 * count + tree + 2 * count + (groups if groups > 1 else 0)
    return count + tree + count + 1
