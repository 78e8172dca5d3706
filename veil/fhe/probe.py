"""Which determinism classes this machine's evaluators reach, known before there is an epoch.

Two machines whose processors take different paths through the Fourier transform give results that differ in the last bits, and
then members cannot check each other. An epoch's own known answer tells classes apart, but only once its keys exist. So a
small circuit is compiled with the epochs' own settings (hence the same polynomials and decompositions) and evaluated on keys
and ciphertexts that are the output of a hash function: nobody has a secret for them, they are the same everywhere, and to the
arithmetic they look like real ones. The digest of the result is the class. Equal digests predict equal results of a real epoch;
the ceremony's known answer is still what is checked when an evaluator starts.
"""

import asyncio
import sys
from dataclasses import dataclass

import msgspec

from veil.errors import DeadlineExceeded, FheUnavailable
from veil.fhe import frames
from veil.fhe.evalchild import child_environment
from veil.fhe.material import Parameters
from veil.types import Digest

PROBE_DEADLINE_S = 120.0
"""Of one child: compiling, generating keys and one small evaluation take about 3 s on an idle machine."""

PROBES_MAX = 6
"""Children started where the Fourier plan cannot be pinned: each draws one of a few classes."""


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """What one child found. Digests in hexadecimal."""

    inputs: str
    known: str
    pinned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Reachable:
    """The classes that evaluators of this machine were seen in, for one parameter set."""

    parameters: Parameters
    inputs: Digest
    """Of circuit, keys and ciphertexts: classes of different inputs cannot be compared."""
    classes: tuple[Digest, ...]
    """Sorted. One where the Fourier plan can be pinned."""
    pinned: bool


async def reachable_classes(parameters: Parameters) -> Reachable:
    """About 3 s, or six times that where the plan cannot be pinned. Raises FheUnavailable, DeadlineExceeded."""
    found = [await _probe(parameters)]
    while not found[0].pinned and len(found) < PROBES_MAX:
        found.append(await _probe(parameters))
    if len({one.inputs for one in found}) != 1:
        raise FheUnavailable("the probe is not the same twice on this machine", hint="install veil's pinned dependencies again")
    return Reachable(
        parameters=parameters,
        inputs=Digest(bytes.fromhex(found[0].inputs)),
        classes=tuple(sorted({Digest(bytes.fromhex(one.known)) for one in found})),
        pinned=found[0].pinned,
    )


async def _probe(parameters: Parameters) -> Probe:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "veil.fhe.probe_child",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=child_environment(),
    )
    try:
        async with asyncio.timeout(PROBE_DEADLINE_S):
            output, errors = await process.communicate(frames.framed([parameters.encode()]))
    except TimeoutError as error:
        raise DeadlineExceeded(f"the probe took over {PROBE_DEADLINE_S:.0f} s", hint="use a less busy machine") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        last = (errors.decode(errors="replace").strip().splitlines() or ["without a word"])[-1]
        raise FheUnavailable(f"the probe ended with code {process.returncode}: {last}", hint="is there 1 GiB of free memory?")
    (answer,) = frames.unpack(output[frames.LENGTH.size :])
    return msgspec.json.decode(answer, type=Probe)
