"""What a ceremony is asked for, and which requests are refused."""

from typing import Literal

import msgspec

from veil.errors import ConfigInvalid
from veil.fhe.threshold import MEMBERS_MAX

CANDIDATES_MAX = 64


class CeremonyPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``members`` share holders, of which ``threshold`` decrypt; one circuit for each size in ``candidates``."""

    epoch: int
    members: int
    threshold: int
    candidates: tuple[int, ...]
    parameters: Literal["plain"]


def make_plan(epoch: int, members: int, threshold: int, candidates: tuple[int, ...], parameters: str) -> CeremonyPlan:
    """Raises ConfigInvalid for an impossible or unsafe request."""
    if not 1 <= threshold <= members <= MEMBERS_MAX:
        raise ConfigInvalid(
            f"a threshold of {threshold} in a committee of {members}", hint=f"1 <= threshold <= members <= {MEMBERS_MAX}"
        )
    if 2 * threshold <= members:
        raise ConfigInvalid(
            f"a threshold of {threshold} in a committee of {members} lets two disjoint groups decrypt",
            hint=f"take at least {members // 2 + 1}",
        )
    if epoch < 1:
        raise ConfigInvalid(f"epoch {epoch}", hint="epochs count from 1")
    if not candidates or len(set(candidates)) != len(candidates) or not all(2 <= size <= CANDIDATES_MAX for size in candidates):
        raise ConfigInvalid(f"circuit sizes {list(candidates)}", hint=f"name distinct sizes of 2 to {CANDIDATES_MAX} candidates")
    if parameters != "plain":
        raise ConfigInvalid(f"the parameter set {parameters!r} is not known", hint="use 'plain'")
    return CeremonyPlan(epoch=epoch, members=members, threshold=threshold, candidates=candidates, parameters="plain")
