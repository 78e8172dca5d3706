"""What others are told of the key epoch that a node works with."""

from veil.api.sealing import EpochKeys
from veil.placement.ports import EpochParts
from veil.store.objects import Obj
from veil.types import Epoch, PeerId


def facts_of(parts: EpochParts | None) -> Obj:
    """What is public of it, for the status of the Node; without an epoch nothing."""
    if parts is None:
        return {"keyEpoch": {}}
    epoch = parts.key_epoch
    shown = {"epoch": epoch.epoch, "mode": epoch.mode, "parameters": epoch.parameters, "threshold": epoch.threshold}
    return {"keyEpoch": shown | {"committee": len(epoch.committee), "holdsShare": parts.decryptor is not None}}


def sealing_keys(parts: EpochParts | None) -> EpochKeys | None:
    """What sealing for it needs."""
    if parts is None:
        return None
    epoch = parts.key_epoch
    return EpochKeys(
        epoch=Epoch(epoch.epoch),
        committee=tuple(PeerId(peer) for peer in epoch.committee),
        threshold=epoch.threshold,
        encryptor=parts.encryptor,
    )
