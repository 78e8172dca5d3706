"""One value, one encoding: whatever else is refused, and nothing crashes."""

import json
import random
from pathlib import Path
from typing import Any

import cbor2
import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from veil.errors import LimitExceeded, WireInvalid
from veil.wire.codec import MESSAGE_MAX_BYTES, decode, digest, encode, sha256
from veil.wire.nodes import NodeInfo
from veil.wire.objects import ENVELOPE_MAX_BYTES, Body, Envelope, encode_envelope, same_template
from veil.wire.rounds import Accept, Commit

VECTORS = json.loads(Path(__file__).with_name("vectors.json").read_text())["messages"]
COMMIT = Commit(round=b"r" * 16, telemetry=b"t" * 32)
INFO = NodeInfo(peer=b"p" * 32, sequence=5, name="node-a", addresses=("/ip4/1.2.3.4/tcp/1",), labels={"a": "b", "bb": "c"})


def test_the_tag_comes_first_and_the_digest_is_of_the_bytes() -> None:
    data = encode(COMMIT)
    assert cbor2.loads(data) == ["veil/commit.1", b"r" * 16, b"t" * 32]
    assert digest(COMMIT) == sha256(data)


@pytest.mark.parametrize(
    "value",
    [
        [],
        ["veil/commit.1"],
        ["veil/commit.1", b"r" * 16],
        ["veil/commit.1", b"r" * 16, b"t" * 32, b"more"],
        ["veil/commit.2", b"r" * 16, b"t" * 32],
        ["veil/accept.1", b"r" * 16, b"t" * 32],
        [b"veil/commit.1", b"r" * 16, b"t" * 32],
        ["veil/commit.1", "r" * 16, b"t" * 32],
        ["veil/commit.1", b"r" * 15, b"t" * 32],
        ["veil/commit.1", b"r" * 17, b"t" * 32],
        ["veil/commit.1", None, b"t" * 32],
        ["veil/commit.1", cbor2.CBORTag(24, b"r" * 16), b"t" * 32],
        {"type": "veil/commit.1", "round": b"r" * 16, "telemetry": b"t" * 32},
        "veil/commit.1",
        None,
        7,
    ],
)
def test_other_shapes(value: Any) -> None:
    with pytest.raises(WireInvalid):
        decode(cbor2.dumps(value, canonical=True), Commit)


def head(major: int, argument: int, width: int) -> bytes:
    """A CBOR head that takes ``width`` bytes for its argument, however small that is."""
    return bytes([major << 5 | {1: 24, 2: 25, 4: 26, 8: 27}[width]]) + argument.to_bytes(width, "big")


def test_other_encodings_of_the_same_value() -> None:
    good = encode(COMMIT)
    assert decode(good, Commit) == COMMIT
    body = good[1:]
    others = {
        "trailing": good + b"\0",
        "twice": good + good,
        "cut": good[:-1],
        "empty": b"",
        "long array head": head(4, 3, 1) + body,
        "long string head": good[:1] + head(3, 13, 2) + b"veil/commit.1" + good[15:],
        "indefinite array": b"\x9f" + body + b"\xff",
        "indefinite bytes": good[:15] + b"\x5f\x48" + b"r" * 8 + b"\x48" + b"r" * 8 + b"\xff" + good[32:],
        "tagged": b"\xd9\xd9\xf7" + good,
    }
    for what, data in others.items():
        assert data != good
        with pytest.raises(WireInvalid):
            print(what, decode(data, Commit))


def test_numbers_have_one_form() -> None:
    good = encode(INFO)
    place = good.index(b"p" * 32) + 32
    assert good[place] == 5
    for other in (head(0, 5, 1), head(0, 5, 8), b"\xf9\x45\x00", b"\xc2\x41\x05", b"\xc2\x42\x00\x05", b"\xf4", b"\x24"):
        with pytest.raises(WireInvalid):
            decode(good[:place] + other + good[place + 1 :], NodeInfo)


def test_maps_are_sorted_and_have_no_key_twice() -> None:
    good = encode(INFO)
    one, two = cbor2.dumps("a") + cbor2.dumps("b"), cbor2.dumps("bb") + cbor2.dumps("c")
    assert b"\xa2" + one + two in good
    for other in (b"\xa2" + two + one, b"\xa2" + one + one, b"\xa3" + one + one + two, b"\xbf" + one + two + b"\xff"):
        with pytest.raises(WireInvalid):
            decode(good.replace(b"\xa2" + one + two, other), NodeInfo)


@pytest.mark.parametrize(
    "value",
    [
        b"bytes",
        2**63,
        float("nan"),
        float("inf"),
        cbor2.CBORTag(9, 1),
        cbor2.undefined,
        cbor2.CBORSimpleValue(99),
        {1: 2},
        {b"a": 1},
    ],
)
def test_a_body_is_json(value: Any) -> None:
    for spec in ({"x": value}, {"x": [{"y": value}]}):
        with pytest.raises(WireInvalid):
            decode(cbor2.dumps(["veil/body.1", spec], canonical=True), Body)
    with pytest.raises(ValueError, match=r"JSON|string"):
        Body(spec={"x": value})


def test_limits() -> None:
    with pytest.raises(LimitExceeded, match="MESSAGE_MAX_BYTES"):
        encode(Body(spec={"x": "y" * MESSAGE_MAX_BYTES}))
    with pytest.raises(WireInvalid, match="at most"):
        decode(b"x" * (MESSAGE_MAX_BYTES + 1), Body)
    with pytest.raises(WireInvalid, match="at most 10"):
        decode(encode(COMMIT), Commit, max_bytes=10)
    with pytest.raises(WireInvalid):
        decode(b"\x9f" * 100_000, Body)
    with pytest.raises(WireInvalid):
        decode(b"\x9b" + b"\xff" * 8, Body)


def test_an_envelope_too_large_for_the_chain() -> None:
    envelope = Envelope(kind="Workload", namespace="default", name="a", uid=bytes(16))
    assert len(encode_envelope(envelope)) <= ENVELOPE_MAX_BYTES
    with pytest.raises(LimitExceeded) as error:
        encode_envelope(Envelope(kind="Workload", namespace="default", name="a", uid=bytes(16), labels={"a": "b" * 512}))
    assert "labels" in error.value.hint


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
@example(b"\xfb\x7f\xf8\x00\x00\x00\x00\x00\x00")
@example(b"\xd8\x1c\x80\xd8\x1d\x00")
@example(b"\xd8\x25\x50" + bytes(16))
@example(b"\xc0\x61x")
def test_any_bytes_are_refused_or_canonical(data: bytes) -> None:
    for kind in (Body, Commit):
        try:
            message = decode(data, kind)
        except WireInvalid:
            continue
        assert encode(message) == data


def test_vectors_with_changes_are_refused_or_canonical() -> None:
    """One value has one digest: no change of bytes gives the same message."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    kinds = {"veil/commit.1": Commit, "veil/accept.2": Accept, "veil/node-info.3": NodeInfo, "veil/body.1": Body}
    for tag, kind in kinds.items():
        good = bytes.fromhex(VECTORS[tag]["bytes"])
        original = decode(good, kind)  # type: ignore[type-var]
        for _ in range(400):
            data = bytearray(good)
            for _change in range(draw.randrange(1, 3)):
                place = draw.randrange(len(data))
                action = draw.randrange(3)
                if action == 0:
                    data[place] = draw.randrange(256)
                elif action == 1:
                    data.insert(place, draw.randrange(256))
                elif len(data) > 1:
                    del data[place]
            try:
                message = decode(bytes(data), kind)  # type: ignore[type-var]
            except WireInvalid:
                continue
            assert encode(message) == data
            assert (repr(message) == repr(original)) == (data == good), "to Python, 1 and True are equal"


ENVELOPE = Envelope(kind="Workload", namespace="default", name="web", uid=bytes(16), replicas=1, labels={"a": "b"})
CHANGES: dict[str, Any] = {
    "kind": "Job",
    "namespace": "other",
    "name": "other",
    "uid": b"u" * 16,
    "labels": {},
    "replicas": 7,
    "policy": "spread",
    "node_selector": {"zone": "a"},
    "tolerations": {"dedicated": "db"},
    "region": "north",
    "anti_affinity": True,
    "vouched_labels": True,
    "body": b"b" * 32,
    "resources": b"r" * 32,
    "template": b"t" * 32,
}


@pytest.mark.parametrize("field", Envelope.__struct_fields__)
def test_everything_but_replicas_and_labels_is_the_template(field: str) -> None:
    before, after = encode(ENVELOPE), encode(msgspec.structs.replace(ENVELOPE, **{field: CHANGES[field]}))
    assert before != after
    assert same_template(before, after) == same_template(after, before) == (field in ("replicas", "labels"))


def test_an_envelope_that_cannot_be_read_is_like_no_other() -> None:
    readable = encode(ENVELOPE)
    assert same_template(b"junk", b"junk")
    assert not same_template(b"junk", b"other junk")
    assert not same_template(b"junk", readable)
    assert not same_template(readable, b"")
