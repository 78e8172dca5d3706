"""Asking an operator for its signature that a node is dead: the member whose turn it is → every other one."""

from typing import Annotated

from msgspec import Meta

from veil.wire.codec import Message
from veil.wire.objects import Bytes32, UInt

SIGNATURE_MAX_BYTES = 65
"""An EIP-712 signature, (r, s, v)."""


class MarkDownQuestion(Message, frozen=True, tag="veil/mark-down-question.1"):
    """Does the receiver, too, hold ``peer`` dead in this incarnation?"""

    peer: Bytes32
    incarnation: UInt


class MarkDownAnswer(Message, frozen=True, tag="veil/mark-down-answer.1"):
    """Its operator's signature for the registry's markDown, or why there is none."""

    signature: Annotated[bytes, Meta(max_length=SIGNATURE_MAX_BYTES)]
    """Empty for none."""
    reason: Annotated[str, Meta(max_length=32)]
    """Empty for none."""
