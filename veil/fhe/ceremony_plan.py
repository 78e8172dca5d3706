"""What a ceremony is asked for, and which requests are refused."""

from typing import cast, get_args

import msgspec

from veil.errors import ConfigInvalid
from veil.fhe.circuits.spec import CircuitSpec, check_spec
from veil.fhe.encoding import FINER_LEVELS, FINER_SHIFT, LEFT_OVER_LEVELS, Encoding, Table
from veil.fhe.flooding import max_decryptions
from veil.fhe.material import Parameters
from veil.fhe.ports import Figures
from veil.fhe.threshold import MEMBERS_MAX


class CeremonyPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``members`` share holders, of which ``threshold`` decrypt; ``circuits`` share one key set."""

    epoch: int
    members: int
    threshold: int
    circuits: tuple[CircuitSpec, ...]
    parameters: Parameters


def known_question(encoding: Encoding, candidates: int) -> tuple[tuple[int, ...], list[Table]]:
    """The slots and tables whose encryption is an epoch's known input: candidates of all levels, the last without room."""
    slots = encoding.slots(Figures(**dict.fromkeys(Figures.__slots__, 1)))
    tables = [encoding.padding() for _ in range(candidates)]
    for place, table in enumerate(tables[:-1]):
        table[list(slots)] = 0
        table[slots[0]], table[slots[0] + FINER_SHIFT] = place % LEFT_OVER_LEVELS, place % FINER_LEVELS
    return slots, tables


def make_plan(epoch: int, members: int, threshold: int, circuits: tuple[CircuitSpec, ...], parameters: str) -> CeremonyPlan:
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
    if not circuits or len(set(circuits)) != len(circuits):
        raise ConfigInvalid(f"circuits {[spec.name for spec in circuits]}", hint="name distinct ones, at least one")
    for spec in circuits:
        check_spec(spec)
    if parameters not in get_args(Parameters):
        raise ConfigInvalid(f"the parameter set {parameters!r} is not known", hint=f"use one of {list(get_args(Parameters))}")
    known = cast(Parameters, parameters)
    bits = max(spec.result_bits for spec in circuits)
    if max_decryptions(known, members, threshold, bits) < 1:
        raise ConfigInvalid(
            f"with {threshold} of {members} members the parameter set {parameters!r} hides too little for one decryption",
            hint="take fewer members, smaller circuits, or the parameter set 'flooded'",
        )
    return CeremonyPlan(epoch=epoch, members=members, threshold=threshold, circuits=circuits, parameters=known)
