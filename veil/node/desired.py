"""From bindings to what the agent runs.

A binding in the journal has everything that its replica needs (template and exact resources), so a node that comes back without
a mesh, or after the workload moved on to another template, still knows what its containers are. Until the projection has
caught up with the chain, a workload that is not in it may only be unread: nothing is ended for that reason.
"""

import logging
from collections.abc import Iterable
from typing import Any

from veil.agent.keys import DesiredInstance, InstanceKey
from veil.errors import WireInvalid
from veil.node.envelopes import envelope_of
from veil.store.journal import Binding
from veil.store.projection import Projection
from veil.wire.codec import decode
from veil.wire.objects import BODY_MAX_BYTES, KINDS, Body, Resources

log = logging.getLogger(__name__)


def desired_instances(
    bindings: Iterable[Binding], projection: Projection, *, caught_up: bool
) -> dict[InstanceKey, DesiredInstance]:
    """The replicas that are bound here and whose workload exists, as the agent wants them."""
    desired: dict[InstanceKey, DesiredInstance] = {}
    for binding in bindings:
        if binding.state != "bound":
            continue
        row = projection.object(KINDS["Workload"], binding.object_id)
        if caught_up and (row is None or row.deleting):
            continue
        envelope = envelope_of(row) if row is not None and row.envelope else None
        key = InstanceKey(binding.object_id, binding.generation, binding.replica)
        desired[key] = DesiredInstance(
            key=key,
            namespace=binding.namespace,
            workload=binding.workload,
            spec=_template(binding),
            resources=decode(binding.resources, Resources),
            public=bool(envelope and envelope.body),
        )
    return desired


def _template(binding: Binding) -> dict[str, Any]:
    """Empty when there is none in what the owner published: the agent then says that it cannot be run."""
    try:
        template = decode(binding.template, Body, max_bytes=BODY_MAX_BYTES).spec.get("template")
    except WireInvalid as error:
        log.warning("the template of %s/%s cannot be read: %s", binding.namespace, binding.workload, error.message)
        return {}
    return template if isinstance(template, dict) else {}
