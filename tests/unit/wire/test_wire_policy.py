"""The cluster's policy as bytes."""

import pytest

from veil.errors import WireInvalid
from veil.wire.codec import encode
from veil.wire.nodes import NodeInfo
from veil.wire.policy import ClusterPolicy, read_policy


def test_no_bytes_are_the_defaults() -> None:
    assert read_policy(b"") == ClusterPolicy(profile="default", transcript_retention_s=24 * 3600)


def test_a_policy_is_read_as_it_was_written() -> None:
    policy = ClusterPolicy(profile="precise", transcript_retention_s=0)
    assert read_policy(encode(policy)) == policy


@pytest.mark.parametrize("content", [b"{}", b"\x80", encode(NodeInfo(peer=bytes(32), sequence=1, name="a", addresses=()))])
def test_other_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(WireInvalid):
        read_policy(content)
