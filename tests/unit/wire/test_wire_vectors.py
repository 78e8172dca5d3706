"""The bytes of every message, fixed: what one version writes, every other one must read.

``vectors.json`` has one example of each message type, by tag: its fields (bytes in hexadecimal) and its encoding. A new type
needs one: run this file as a program, which adds what is missing and changes nothing that is there. A vector that fails
means that the type's bytes have changed: give it a new tag.
"""

import hashlib
import importlib
import json
import pkgutil
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
from eth_hash.auto import keccak
from msgspec import inspect

import veil.wire
from veil.errors import WireInvalid
from veil.identity import Identity, cluster_id
from veil.types import Address, ClusterId, Digest, ObjectId, Secret
from veil.wire.codec import Message, decode, encode
from veil.wire.merkle import is_in, leaf_hash, proof_of, root_of
from veil.wire.nodes import prove_possession
from veil.wire.objects import demand_id, object_id
from veil.wire.rounds import Commit, Leaf, transcript_root
from veil.wire.signed import Signed, sign

PATH = Path(__file__).with_name("vectors.json")
VECTORS: dict[str, Any] = json.loads(PATH.read_text()) if PATH.exists() else {"messages": {}, "derived": {}}
IDENTITY = Identity(Secret(bytes(range(32))))
CLUSTER = ClusterId(bytes(range(32, 64)))
OPERATOR = Address("0x" + "Ab" * 20)


def message_types() -> dict[str, type[Message]]:
    """Every message of veil.wire by its tag."""
    for module in pkgutil.iter_modules(veil.wire.__path__):
        importlib.import_module(f"veil.wire.{module.name}")
    found: dict[str, type[Message]] = {}
    waiting = [Message]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if kind is not Message and kind.__module__.startswith("veil.wire."):
            tag = str(kind.__struct_config__.tag)
            assert tag not in found, f"{kind.__name__} and {found.get(tag)} have one tag"
            found[tag] = kind
    return found


TYPES = message_types()


def from_json(kind: inspect.Type, value: Any) -> Any:
    """The Python value of type ``kind`` that a vector's JSON describes."""
    match kind:
        case inspect.Metadata(type=inner):
            return from_json(inner, value)
        case inspect.StructType(cls=cls, fields=fields):
            return cls(**{field.name: from_json(field.type, value[field.name]) for field in fields})
        case inspect.BytesType():
            return bytes.fromhex(value)
        case inspect.VarTupleType(item_type=item):
            return tuple(from_json(item, one) for one in value)
        case inspect.TupleType(item_types=items):
            return tuple(from_json(item, one) for item, one in zip(items, value, strict=True))
        case inspect.DictType(value_type=inner):
            return {key: from_json(inner, one) for key, one in value.items()}
        case inspect.UnionType(types=types):
            return value if value is None else from_json(next(t for t in types if not isinstance(t, inspect.NoneType)), value)
        case _:
            return value


def to_json(value: Any) -> Any:
    if isinstance(value, Message):
        return {name: to_json(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple | list):
        return [to_json(one) for one in value]
    return {key: to_json(one) for key, one in value.items()} if isinstance(value, dict) else value


def example(kind: inspect.Type, numbers: Any) -> Any:
    """A value that fits ``kind`` and has no two parts alike, as far as the type allows."""
    number = next(numbers)
    match kind:
        case inspect.Metadata(type=inner):
            return example(inner, numbers)
        case inspect.StructType(cls=cls, fields=fields):
            return cls(**{field.name: example(field.type, numbers) for field in fields})
        case inspect.BytesType(min_length=least, max_length=most):
            return (hashlib.sha512(bytes([number % 256])).digest() * 2)[: least or min(most or 40, 40)]
        case inspect.StrType():
            return f"text-{number}"
        case inspect.LiteralType(values=values):
            return values[number % len(values)]
        case inspect.BoolType():
            return True
        case inspect.IntType(ge=least, le=most, lt=under):
            largest = min(bound for bound in (most, under - 1 if under is not None else None, 2**40) if bound is not None)
            return max(least or 0, min(largest, number * 7 + (1000 if largest > 10_000 else 0)))
        case inspect.VarTupleType(item_type=item):
            return tuple(example(item, numbers) for _ in range(2))
        case inspect.TupleType(item_types=items):
            return tuple(example(item, numbers) for item in items)
        case inspect.DictType(value_type=inner):
            return {f"key-{next(numbers)}": example(inner, numbers) for _ in range(2)}
        case inspect.UnionType(types=types):
            return example(next(t for t in types if not isinstance(t, inspect.NoneType)), numbers)
        case inspect.AnyType():
            return {"nested": [number, "text", None, True, 1.5]}
    raise AssertionError(f"no example for {kind}")


def test_every_message_has_a_vector() -> None:
    missing = sorted(set(TYPES) - set(VECTORS["messages"]))
    assert not missing, f"without a vector: {missing}. Run {Path(__file__).name} as a program to add them"


def test_every_vector_is_of_a_message() -> None:
    assert set(VECTORS["messages"]) == set(TYPES), "a type that was released is still read"


@pytest.mark.parametrize("tag", sorted(VECTORS["messages"]))
def test_messages(tag: str) -> None:
    vector, kind = VECTORS["messages"][tag], TYPES[tag]
    data = bytes.fromhex(vector["bytes"])
    message = decode(data, kind)
    assert to_json(message) == vector["fields"], f"{tag}: what is read from its bytes has changed"
    written = encode(from_json(inspect.type_info(kind), vector["fields"]))
    assert written.hex() == vector["bytes"], f"{tag}: the bytes have changed: give {kind.__name__} a new tag"
    assert message == from_json(inspect.type_info(kind), vector["fields"])
    assert tag.encode() in data[:60]


@pytest.mark.parametrize("tag", sorted(VECTORS["messages"]))
def test_no_vector_is_read_as_another_type(tag: str) -> None:
    data = bytes.fromhex(VECTORS["messages"][tag]["bytes"])
    for other, kind in TYPES.items():
        if other != tag:
            with pytest.raises(WireInvalid):
                decode(data, kind)


def derived() -> dict[str, Any]:
    """Everything that is computed from messages and names, and ends up on the chain or under a signature."""
    leaves = [leaf(number) for number in range(5)]
    hashes = [leaf_hash(one) for one in leaves]
    commit = Commit(round=bytes(16), telemetry=bytes(32))
    first, second = (sign(IDENTITY, CLUSTER, commit), sign(IDENTITY, CLUSTER, leaf(1)))
    return {
        "object_id": {
            f"{ns}/{name}": object_id(ns, name).hex() for ns, name in [("default", "hello"), ("team-a", ""), ("é", "x")]
        },
        "demand_id": {str(epoch): demand_id(object_id("default", "hello"), epoch).hex() for epoch in (0, 1, 2**40)},
        "cluster_id": {f"{chain}": cluster_id(chain, OPERATOR).hex() for chain in (1, 31337)},
        "peer_id": IDENTITY.peer_id.hex(),
        "possession": prove_possession(IDENTITY, CLUSTER, OPERATOR).hex(),
        "signature": first.signature.hex(),
        "transcript_root": transcript_root(first, second, Digest(bytes(32))).hex(),
        "leaf_hash": [one.hex() for one in hashes],
        "merkle_root": {str(size): root_of(hashes[:size]).hex() for size in range(1, 6)},
        "merkle_proof": {
            f"{index} of {size}": [one.hex() for one in proof_of(hashes[:size], index)]
            for size in (1, 2, 3, 5)
            for index in range(size)
        },
    }


def leaf(number: int) -> Leaf:
    return Leaf(
        salt=bytes([number]) * 32,
        object_id=object_id("default", "hello"),
        generation=1,
        replica=number,
        round=bytes([number]) * 16,
        epoch=1,
        transcript=bytes(32),
        peer=IDENTITY.peer_id,
        checked=True,
    )


@pytest.mark.parametrize("name", sorted(VECTORS["derived"]))
def test_derived(name: str) -> None:
    assert derived()[name] == VECTORS["derived"][name]


def test_every_derived_value_has_a_vector() -> None:
    assert set(derived()) == set(VECTORS["derived"])


def test_ids_are_what_the_registry_and_other_readers_compute() -> None:
    space = hashlib.sha256(b"veil/namespace.1default").digest()[:16]
    hello = space + hashlib.sha256(b"veil/name.1hello").digest()[:16]
    assert object_id("default", "hello") == hello
    assert object_id("default", "") == space + bytes(16)
    tail = hashlib.sha256(b"veil/demand-id.1" + hello + (7).to_bytes(8, "big")).digest()[:16]
    assert demand_id(ObjectId(hello), 7) == space + tail
    whole = b"veil/cluster.1" + (31337).to_bytes(32, "big") + bytes.fromhex("ab" * 20)
    assert cluster_id(31337, OPERATOR) == hashlib.sha256(whole).digest()


def test_leaves_and_roots_are_what_the_contract_verifies() -> None:
    """OpenZeppelin's StandardMerkleTree: leaves hashed twice, inner nodes over sorted pairs."""
    hashes = [leaf_hash(leaf(number)) for number in range(3)]
    assert hashes[0] == keccak(keccak(encode(leaf(0))))
    pair = keccak(min(hashes[:2]) + max(hashes[:2]))
    root = keccak(min(pair, hashes[2]) + max(pair, hashes[2]))
    assert root_of(hashes) == root
    assert proof_of(hashes, 2) == (pair,)
    assert is_in(hashes[2], [pair], root)


def test_a_signature_covers_cluster_and_tag() -> None:
    commit = Commit(round=bytes(16), telemetry=bytes(32))
    signed = sign(IDENTITY, CLUSTER, commit)
    assert signed == Signed(
        signer=IDENTITY.peer_id, body=encode(commit), signature=IDENTITY.sign(b"veil/signature.1" + CLUSTER + encode(commit))
    )


def main() -> None:
    for tag, kind in TYPES.items():
        if tag not in VECTORS["messages"]:
            message = example(inspect.type_info(kind), count(1))
            assert msgspec.convert(msgspec.to_builtins(message), kind) == message
            VECTORS["messages"][tag] = {"fields": to_json(message), "bytes": encode(message).hex()}
    for name, value in derived().items():
        VECTORS["derived"].setdefault(name, value)
    PATH.write_text(json.dumps(VECTORS, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
