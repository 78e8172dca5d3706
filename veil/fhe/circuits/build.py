"""Compiles the circuits of an epoch under one key set."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from veil.errors import CiphertextInvalid
from veil.fhe.circuits import layout, tables
from veil.fhe.circuits.choose import choose
from veil.fhe.circuits.configuration import configuration, has_stated_keys, with_output_width
from veil.fhe.circuits.precise import choose_one
from veil.fhe.circuits.rank import rank
from veil.fhe.circuits.spec import CircuitSpec
from veil.fhe.concrete_import import fhe
from veil.fhe.encoding import FINER_LEVELS, VALUES
from veil.fhe.material import Parameters

SAMPLES = 300
"""Random inputs, beside the extremes, from which the compiler measures ranges."""

MOST = {"level": VALUES - 1, "finer": FINER_LEVELS - 1}
"""The largest honest inputs: without cpu, memory and disk."""


def compiled(specs: Sequence[CircuitSpec], parameters: Parameters = "plain") -> dict[CircuitSpec, Any]:
    """The circuits (``concrete.fhe.Circuit``), all for the stated keys."""
    return {spec: build(spec, parameters) for spec in specs}


def build(spec: CircuitSpec, parameters: Parameters = "plain") -> Any:
    """One compiled circuit. Raises CiphertextInvalid where the stated keys are not enough for it."""
    generator = np.random.default_rng(7)
    names = layout.INPUTS[spec.profile]
    extremes = [[np.full(spec.candidates, MOST[name] * end) for name in names] for end in (0, 1)]
    others = [[generator.integers(0, MOST[name] + 1, spec.candidates) for name in names] for _ in range(SAMPLES)]
    samples = [tuple(sample) if len(names) > 1 else sample[0] for sample in (*extremes, *others)]
    function = with_output_width(body(spec), parameters)
    circuit = fhe.Compiler(function, dict.fromkeys(names, "encrypted")).compile(samples, configuration(parameters))
    if not has_stated_keys(circuit, parameters):
        raise CiphertextInvalid(f"the circuit {spec.name} needs other keys than are stated", hint="pin concrete-python 2.11.0")
    return circuit


def body(spec: CircuitSpec) -> Callable[..., Any]:
    """The circuit on numpy arrays or on Concrete's tracers; its parameters are ``layout.INPUTS`` of the profile."""

    def default(level: Any) -> Any:
        outputs = rank if spec.shape == "rank" else choose
        return outputs(tables.scores(level))

    def precise(level: Any, finer: Any) -> Any:
        outputs = rank if spec.shape == "rank" else choose_one
        return outputs(tables.scores(level), finer)

    return precise if spec.profile == "precise" else default
