"""Compiles the circuits of an epoch under one key set."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from veil.errors import CiphertextInvalid
from veil.fhe.circuits import layout, tables
from veil.fhe.circuits.choose import choose
from veil.fhe.circuits.configuration import configuration, with_output_width
from veil.fhe.circuits.precise import choose_one
from veil.fhe.circuits.rank import rank
from veil.fhe.circuits.spec import CircuitSpec
from veil.fhe.concrete_import import fhe
from veil.fhe.encoding import FINER_LEVELS, INFEASIBLE_LEVEL
from veil.fhe.material import Parameters

SAMPLES = 300
"""Random inputs, beside the extremes, from which the compiler measures ranges."""

MOST = {"level": 2 * INFEASIBLE_LEVEL, "finer": FINER_LEVELS - 1}
"""The largest honest inputs: two slots are summed."""


def compiled(specs: Sequence[CircuitSpec], parameters: Parameters = "plain") -> dict[CircuitSpec, Any]:
    """The circuits (``concrete.fhe.Circuit``). Raises CiphertextInvalid unless one key set serves them all."""
    circuits = {spec: build(spec, parameters) for spec in specs}
    keysets = {str(msgspec.json.decode(circuit.client.specs.serialize())["keyset"]) for circuit in circuits.values()}
    if len(keysets) != 1:
        raise CiphertextInvalid("the circuits of this epoch need different keys", hint="pin concrete-python 2.11.0")
    return circuits


def build(spec: CircuitSpec, parameters: Parameters = "plain") -> Any:
    """One compiled circuit."""
    generator = np.random.default_rng(7)
    names = layout.INPUTS[spec.profile]
    extremes = [[np.full(spec.candidates, MOST[name] * end) for name in names] for end in (0, 1)]
    others = [[generator.integers(0, MOST[name] + 1, spec.candidates) for name in names] for _ in range(SAMPLES)]
    samples = [tuple(sample) if len(names) > 1 else sample[0] for sample in (*extremes, *others)]
    function = with_output_width(body(spec), parameters)
    return fhe.Compiler(function, dict.fromkeys(names, "encrypted")).compile(samples, configuration(parameters))


def body(spec: CircuitSpec) -> Callable[..., Any]:
    """The circuit on numpy arrays or on Concrete's tracers; its parameters are ``layout.INPUTS`` of the profile."""
    outputs = rank if spec.shape == "rank" else choose

    def default(level: Any) -> Any:
        return outputs(tables.scores(level))

    def precise(level: Any, finer: Any) -> Any:
        return choose_one(tables.scores(level), finer)

    return precise if spec.profile == "precise" else default
