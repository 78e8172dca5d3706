"""Opening a sealed part with shares of its content key, as they come in from committee members."""

import logging
from collections.abc import Mapping
from typing import Literal

from veil.errors import CiphertextInvalid, Untrusted
from veil.fhe.ports import Figures
from veil.fhe.sharing import join_secret
from veil.placement.local import Local
from veil.types import ObjectId, PeerId, Secret
from veil.wire.objects import Resources, SealedPart
from veil.wire.sealed import open_part

log = logging.getLogger(__name__)


def is_member(local: Local, peer: PeerId, member: int) -> bool:
    """Whether ``peer`` is the committee's ``member`` (1-based) in the present epoch or the last. A wrong share opens nothing."""
    committees = [parts.key_epoch.committee for parts in (local.epoch, local.last_epoch) if parts is not None]
    return any(committee[member - 1 : member] == (peer,) for committee in committees)


def open_with(
    part: SealedPart | None, shares: Mapping[int, bytes], piece: Literal["resources", "template"], object_id: ObjectId
) -> bytes | None:
    """The plaintext once there are enough good shares; None until then. Bad shares only make it wait for more."""
    if part is None or len(shares) < part.threshold or (part.piece, part.object_id) != (piece, object_id):
        return None
    try:
        return open_part(part, Secret(join_secret(shares)))
    except (Untrusted, CiphertextInvalid) as error:
        log.warning("a sealed part does not open with %d shares: %s", len(shares), error.message)
        return None


def total_of(resources: Resources) -> Figures:
    """What all containers ask for together."""
    asked = resources.containers.values()
    return Figures(
        cpu_milli=sum(one.cpu_milli for one in asked),
        memory_bytes=sum(one.memory_bytes for one in asked),
        disk_bytes=sum(one.disk_bytes for one in asked),
        gpu_count=sum(one.gpu_count for one in asked),
    )
