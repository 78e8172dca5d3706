"""Compiles the circuits of an epoch, so that one key set serves them all."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from veil.errors import CiphertextInvalid
from veil.fhe.circuits import catalogue, digits, layout
from veil.fhe.circuits.choose import choose
from veil.fhe.circuits.configuration import configuration, with_output_width
from veil.fhe.circuits.precise import choose_one
from veil.fhe.circuits.rank import rank
from veil.fhe.circuits.spec import CircuitSpec
from veil.fhe.concrete_import import fhe
from veil.fhe.encoding import BUNDLES, FINE_RESOURCES, FINER_LEVELS, INFEASIBLE_LEVEL, LOW_RADIX, Encoding
from veil.fhe.material import Parameters

SAMPLES = 300
"""Random inputs, beside the extremes, from which the compiler measures ranges."""

EXTREMES = 4

Ints = npt.NDArray[np.int64]


def compiled(specs: Sequence[CircuitSpec], encoding: Encoding, parameters: Parameters = "plain") -> dict[CircuitSpec, Any]:
    """The circuits (``concrete.fhe.Circuit``). Raises CiphertextInvalid unless one key set serves them all."""
    circuits = {spec: build(spec, encoding, parameters) for spec in specs}
    keysets = {str(msgspec.json.decode(circuit.client.specs.serialize())["keyset"]) for circuit in circuits.values()}
    if len(keysets) != 1:
        raise CiphertextInvalid("the circuits of this epoch need different keys", hint="pin concrete-python 2.11.0")
    return circuits


def build(spec: CircuitSpec, encoding: Encoding, parameters: Parameters = "plain") -> Any:
    """One compiled circuit."""
    generator = np.random.default_rng(7)
    radixes = np.array([resource.high_radix for resource in encoding.resources], np.int64)
    samples = [sample(generator, spec, radixes, kind) for kind in range(EXTREMES + SAMPLES)]
    names = layout.INPUTS[spec.profile]
    function = with_output_width(body(spec, len(radixes)), parameters)
    return fhe.Compiler(function, dict.fromkeys(names, "encrypted")).compile(samples, configuration(parameters))


def body(spec: CircuitSpec, resources: int) -> Callable[..., Any]:
    """The circuit on numpy arrays or on Concrete's tracers; its parameters are ``layout.INPUTS`` of the profile."""
    outputs = rank if spec.shape == "rank" else choose

    def fast(free_bundles: Any, left_over: Any, asked_bundle: Any) -> Any:
        return outputs(catalogue.scores(free_bundles, left_over, asked_bundle))

    def default(free_high: Any, free_low: Any, left_over: Any, asked_high: Any, asked_low: Any) -> Any:
        return outputs(digits.scores(free_high, free_low, left_over, asked_high, asked_low, resources))

    def precise(free_high: Any, free_low: Any, left_over: Any, asked_high: Any, asked_low: Any, finer: Any) -> Any:
        return choose_one(digits.scores(free_high, free_low, left_over, asked_high, asked_low, resources), finer)

    bodies: dict[str, Callable[..., Any]] = {"fast": fast, "default": default, "precise": precise}
    return bodies[spec.profile]


def sample(generator: np.random.Generator, spec: CircuitSpec, radixes: Ints, kind: int) -> tuple[Ints, ...]:
    """Honest digits of one kind: 0..3 are the extremes that reach every intermediate's bounds, others are random."""
    telemetry, demand = honest_digits(generator, spec.candidates, radixes, kind)
    parts = layout.inputs(spec.profile, list(telemetry.astype(np.uint64)), demand.astype(np.uint64))
    return tuple(part.astype(np.int64) for part in parts)


def honest_digits(generator: np.random.Generator, candidates: int, radixes: Ints, kind: int) -> tuple[Ints, Ints]:
    """Every candidate's digits (n, R+5) and the demand's (R+3,), as :func:`sample`."""
    last = INFEASIBLE_LEVEL - 1
    most = np.array([*(radixes - 1), *[LOW_RADIX - 1] * FINE_RESOURCES])
    if kind < EXTREMES:
        free, asked = (most, most * 0) if kind % 2 == 0 else (most * 0, most)
        level = last if kind >= 2 else 0
        bundles, bundle = (BUNDLES, 1) if kind % 2 == 0 else (0, BUNDLES)
        one = [*free, level, FINER_LEVELS - 1 if kind >= 2 else 0, bundles]
        return np.tile(np.array(one, np.int64), (candidates, 1)), np.array([*asked, bundle], np.int64)
    telemetry = np.column_stack(
        [
            generator.integers(0, most + 1, (candidates, len(most))),
            generator.integers(0, last + 1, candidates),
            generator.integers(0, FINER_LEVELS, candidates),
            generator.integers(0, BUNDLES + 1, candidates),
        ]
    )
    asked = generator.integers(0, most + 1) // generator.integers(1, 5)
    return telemetry, np.array([*asked, generator.integers(1, BUNDLES + 1)], np.int64)
