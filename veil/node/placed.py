"""Where an Instance runs, as its object says."""

from veil.agent.keys import InstanceKey
from veil.errors import NotFound
from veil.identity import parse_peer_id
from veil.store.objects import Obj
from veil.types import Generation, PeerId
from veil.wire.objects import object_id


def placed(instance: Obj) -> tuple[PeerId, InstanceKey]:
    """The winner that runs ``instance`` and how its agent calls it. Raises NotFound while it is placed nowhere."""
    metadata, spec = instance["metadata"], instance["spec"]
    peer = instance.get("status", {}).get("peer", "")
    if not peer:
        raise NotFound(f"Instance {metadata['name']} is not placed yet", hint="see `veil describe instance`")
    key = InstanceKey(object_id(metadata["namespace"], spec["workload"]), Generation(spec["generation"]), int(spec["replica"]))
    return parse_peer_id(peer), key
