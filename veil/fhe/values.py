"""Concrete's serialised values, written and read without Concrete's own client.

Concrete can only encrypt with the secret key, and only shows decrypted outputs. Veil encrypts under a public key and decrypts
by a quorum, so it puts raw LWE rows into values and takes them out again. The type description of a value comes from the
circuit's own client specification, because Concrete compares it exactly. Used by the evaluator's child and the ceremony.
"""

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import capnp as _pycapnp
import numpy as np
import numpy.typing as npt

from veil.errors import CiphertextInvalid

Rows = npt.NDArray[np.uint64]
"""LWE ciphertexts in the last axis: the mask, then the body."""

capnp: Any = _pycapnp
"""Its names are made at run time, so no type checker sees them."""

_TRAVERSAL_WORDS = 1 << 40
"""Cap'n Proto's guard against amplification is too low for evaluation keys; the bytes are held already."""


@lru_cache(maxsize=1)
def _schema() -> Any:
    capnp.remove_import_hook()
    return capnp.load(str(Path(__file__).parent / "schema" / "concrete_values.capnp"))


def _fill(message: Any, fields: dict[str, Any]) -> None:
    """Copies JSON as Concrete writes it (its own field names) into a message."""
    for name, value in fields.items():
        if isinstance(value, dict):
            try:
                part = message.init(name)
            except capnp.KjException:  # a group has no storage of its own
                part = getattr(message, name)
            _fill(part, value)
        elif isinstance(value, list):
            items = message.init(name, len(value))
            for index, item in enumerate(value):
                items[index] = item
        else:
            setattr(message, name, value)


def gates(client: bytes) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Inputs and outputs of the one circuit in a client specification (Concrete's JSON)."""
    circuit = json.loads(client)["circuits"][0]
    return circuit["inputs"], circuit["outputs"]


def lwe(gate: dict[str, Any]) -> dict[str, Any]:
    """What a gate says of its ciphertexts: encoding, encryption, shapes."""
    description: dict[str, Any] = gate["typeInfo"]["lweCiphertext"]
    return description


def craft(gate: dict[str, Any], rows: Rows) -> bytes:
    """The serialised value that puts ``rows`` on ``gate``. Raises CiphertextInvalid for the wrong shape."""
    shape = tuple(gate["rawInfo"]["shape"]["dimensions"])
    if rows.shape != shape:
        raise CiphertextInvalid(
            f"ciphertext rows of shape {rows.shape} for an input of shape {shape}", hint="check the epoch's circuits"
        )
    value = _schema().Value.new_message()
    _fill(value, {"rawInfo": gate["rawInfo"], "typeInfo": gate["typeInfo"]})
    value.init("payload").init("data", 1)[0] = np.ascontiguousarray(rows, dtype="<u8").tobytes()
    data: bytes = value.to_bytes()
    return data


def rows_of(value: bytes) -> Rows:
    """The raw LWE rows of a serialised value, in its concrete shape."""
    with _schema().Value.from_bytes(value, traversal_limit_in_words=_TRAVERSAL_WORDS) as message:
        shape = tuple(message.rawInfo.shape.dimensions)
        return np.frombuffer(b"".join(message.payload.data), dtype="<u8").reshape(shape).astype(np.uint64)


def secret_key(keyset: bytes, key_id: int) -> npt.NDArray[np.int64]:
    """The bits of one secret key out of a serialised keyset. Only the ceremony holds such bytes."""
    with _schema().Keyset.from_bytes(keyset, traversal_limit_in_words=_TRAVERSAL_WORDS) as message:
        for key in message.client.lweSecretKeys:
            if key.info.id == key_id:
                return np.frombuffer(b"".join(key.payload.data), dtype="<u8").astype(np.int64)
    raise CiphertextInvalid(f"no secret key {key_id} in the keyset", hint="the circuits use another key layout")


def with_payloads(evaluation_keys: bytes, fill: Callable[[str, int], bytes]) -> bytes:
    """Serialised evaluation keys of the same form, each payload replaced by ``fill(its name, its bytes)``."""
    with _evaluation_keys(evaluation_keys) as message:
        changed = message.as_builder()
    for name, data in _parts(changed):
        for index in range(len(data)):
            data[index] = fill(f"{name}/{index}", len(data[index]))
    written: bytes = changed.to_bytes()
    return written


def payloads(evaluation_keys: bytes) -> list[bytes]:
    """What the keys consist of, in order."""
    with _evaluation_keys(evaluation_keys) as message:
        return [bytes(part) for _, data in _parts(message) for part in data]


def _evaluation_keys(data: bytes) -> Any:
    return _schema().EvaluationKeyset.from_bytes(data, traversal_limit_in_words=_TRAVERSAL_WORDS)


def _parts(message: Any) -> list[tuple[str, Any]]:
    return [
        (f"{kind}/{index}", key.payload.data)
        for kind in ("lweBootstrapKeys", "lweKeyswitchKeys")
        for index, key in enumerate(getattr(message, kind))
    ]
