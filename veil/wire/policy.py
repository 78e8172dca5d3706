"""What the cluster has agreed on, as the registry's policy bytes hold it."""

from typing import Annotated

from msgspec import Meta

from veil.wire.codec import Message, decode
from veil.wire.nodes import Profile

DAY_S = 24 * 3600


class ClusterPolicy(Message, frozen=True, tag="veil/cluster-policy.1"):
    """No bytes at all are this with its defaults."""

    profile: Profile = "default"
    """Of all placement rounds."""
    transcript_retention_s: Annotated[int, Meta(ge=0, le=365 * DAY_S)] = DAY_S
    """How long coordinators and committee members keep what an auditor needs of a round."""


def read_policy(content: bytes) -> ClusterPolicy:
    """The registry's policy bytes. Raises WireInvalid for what this version does not understand."""
    return decode(content, ClusterPolicy) if content else ClusterPolicy()
