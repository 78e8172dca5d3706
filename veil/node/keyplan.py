"""What a key ceremony is to make, as its file says: mode, threshold, circuits, sizes."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

from veil.errors import ConfigInvalid, ManifestInvalid, VeilError
from veil.fhe.ceremony_plan import make_plan
from veil.fhe.circuits.spec import CircuitSpec, circuits_of
from veil.fhe.encoding import Encoding, Name, default_encoding, parse_encoding, sized
from veil.fhe.material import Parameters, Profile
from veil.manifest.parse import load
from veil.manifest.quantity import parse_bytes, parse_count, parse_cpu
from veil.manifest.validate import default, validate

Mode = Literal["threshold", "designated"]

DEFAULT_PARAMETERS: Parameters = "flooded"
"""``plain`` hides too little of a decryption for production."""
DEFAULT_CANDIDATES = (4, 8, 16)

_RESOURCES: dict[str, Name] = {"cpu": "cpu_milli", "memory": "memory_bytes", "disk": "disk_bytes", "gpu": "gpu_count"}
_PARSERS: dict[str, Any] = {"cpu": parse_cpu, "memory": parse_bytes, "disk": parse_bytes, "gpu": parse_count}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPlan:
    """A ceremony to be held. ``members`` None: as many as the committee file names."""

    threshold: int
    members: int | None = None
    mode: Mode = "threshold"
    parameters: Parameters = DEFAULT_PARAMETERS
    profiles: tuple[Profile, ...] = ("default",)
    candidates: tuple[int, ...] = DEFAULT_CANDIDATES
    encoding: Encoding = default_encoding()

    @property
    def circuits(self) -> tuple[CircuitSpec, ...]:
        """Every shape of every profile, in every size. Raises ConfigInvalid for a size that a profile does not have."""
        return circuits_of(self.profiles, self.candidates)

    def for_committee(self, members: int) -> "KeyPlan":
        """The same for exactly ``members``. Raises ConfigInvalid for a number that is not the plan's, or is impossible."""
        if self.members not in (None, members):
            raise ConfigInvalid(
                f"the plan is for {self.members} members, the committee file names {members}",
                hint="name that many, or change spec.members and spec.threshold of the plan",
            )
        if self.mode == "designated" and (members, self.threshold) != (1, 1):
            raise ConfigInvalid(
                f"in designated mode one node holds the whole key; here are {members} members, threshold {self.threshold}",
                hint="name one member and threshold 1, or take mode threshold",
            )
        make_plan(1, members, self.threshold, self.circuits, self.parameters)
        if self.mode == "threshold" and self.threshold == members:
            raise ConfigInvalid(
                f"with a threshold of {self.threshold} in a committee of {members} there is no member more than decrypt: "
                "no decryption could ever be checked, and one member away stops placement",
                hint="name one more member, or lower the threshold as long as it is more than half",
            )
        return replace(self, members=members)


def read_plan(path: Path) -> KeyPlan:
    """The plan in a file. Raises ManifestInvalid with lines, ConfigInvalid."""
    try:
        documents = load(path.read_bytes(), str(path))
    except OSError as error:
        raise ConfigInvalid(f"{path} cannot be read: {error.strerror}") from error
    if len(documents) != 1:
        raise ConfigInvalid(f"{path} has {len(documents)} documents, one KeyPlan is expected")
    located = documents[0]
    spec = default(validate(located, kinds=("KeyPlan",)))["spec"]
    try:
        encoding = _encoding(spec)
    except VeilError as error:
        raise ManifestInvalid([located.error(("spec", "sizes"), error.message)], hint="`veil explain keyplan`") from error
    return KeyPlan(
        threshold=spec["threshold"],
        members=spec["members"],
        mode=spec["mode"],
        parameters=cast(Parameters, spec.get("parameters", DEFAULT_PARAMETERS)),
        profiles=tuple(spec["profiles"]),
        candidates=tuple(spec["candidates"]),
        encoding=encoding,
    )


def _encoding(spec: dict[str, Any]) -> Encoding:
    """Veil's own sizes, with those of the plan in their place. Raises CiphertextInvalid when they do not ascend."""
    reference: dict[Name, int] = {
        _RESOURCES[name]: _PARSERS[name](value) for name, value in spec.get("referenceNode", {}).items()
    }
    encoding = default_encoding()
    maxima = {resource.name: resource.maximum for resource in encoding.resources}
    maxima |= {_RESOURCES[name]: _PARSERS[name](sizes["maximum"]) for name, sizes in spec.get("sizes", {}).items()}
    return parse_encoding(encoding.resized(sized(maxima), reference or None).to_json())
