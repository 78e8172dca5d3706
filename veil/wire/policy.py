"""What the cluster has agreed on, as the registry's policy bytes hold it."""

from typing import Annotated

from msgspec import Meta

from veil.wire.codec import Message, decode
from veil.wire.nodes import Profile

DAY_S = 24 * 3600

DECISIONS_PER_CANDIDATE = 512
"""A candidate that chooses its vector well learns about one bit of the key, which has 2,048, from each decision it is part of.
With a quarter of a binary key known, what is left is as hard as a key of three quarters the dimension: some 96 of 128 bits of
security, since that grows about linearly with the dimension at one modulus and noise."""

DECISIONS_PER_CANDIDATE_MAX = 1_000_000
"""As good as none: for clusters whose nodes all belong to people who trust each other."""


class ClusterPolicy(Message, frozen=True, tag="veil/cluster-policy.2"):
    """No bytes at all are this with its defaults."""

    profile: Profile = "default"
    """Of all placement rounds."""
    transcript_retention_s: Annotated[int, Meta(ge=0, le=365 * DAY_S)] = DAY_S
    """How long coordinators and committee members keep what an auditor needs of a round."""
    decisions_per_candidate: Annotated[int, Meta(ge=1, le=DECISIONS_PER_CANDIDATE_MAX)] = DECISIONS_PER_CANDIDATE
    """Of one key epoch, that a committee member decrypts with any one node among the candidates."""


def read_policy(content: bytes) -> ClusterPolicy:
    """The registry's policy bytes. Raises WireInvalid for what this version does not understand."""
    return decode(content, ClusterPolicy) if content else ClusterPolicy()
