"""Asking another node for what it keeps of a placement: auditor → coordinator or winner."""

from veil.wire.codec import Message
from veil.wire.objects import Bytes32
from veil.wire.rounds import Bound, Transcript


class AuditQuestion(Message, frozen=True, tag="veil/audit-question.1"):
    """What does the receiver know of a leaf of the placement log?"""

    leaf: Bytes32
    """Its hash, as it is in the append's leaves."""


class AuditAnswer(Message, frozen=True, tag="veil/audit-answer.2"):
    """What it knows and may tell the asker."""

    bound: Bound | None
    """What the leaf stands for, with its proof."""
    transcript: Transcript | None
    """Of the leaf's round, if the receiver coordinated it."""
