"""The envelope of a chain-held object, checked before anybody goes by it.

The registry knows an object by a hash and takes any bytes as its envelope: whoever may write in one namespace could call an
object of theirs by a name in another, or write what nobody can read. Both count as no object.
"""

import logging
from functools import lru_cache

from veil.errors import WireInvalid
from veil.store.rows import ObjectRow
from veil.types import ObjectId
from veil.wire.codec import decode
from veil.wire.objects import KINDS, Envelope, object_id

log = logging.getLogger(__name__)

ENVELOPES_REMEMBERED = 16384


def envelope_of(row: ObjectRow) -> Envelope | None:
    """What ``row`` says of its object; None when it cannot be read, or is of another object than the registry says."""
    return _checked(row.kind, row.object_id, row.envelope)


@lru_cache(maxsize=ENVELOPES_REMEMBERED)
def _checked(kind: int, of: ObjectId, data: bytes) -> Envelope | None:
    try:
        envelope = decode(data, Envelope)
    except WireInvalid as error:
        log.warning("object %s is ignored: %s", of.hex()[:16], error.message)
        return None
    named = object_id(envelope.name, "") if envelope.kind == "Namespace" else object_id(envelope.namespace, envelope.name)
    if KINDS[envelope.kind] != kind or named != of or (envelope.kind == "Namespace" and envelope.namespace):
        log.warning("object %s is ignored: its envelope is that of another object", of.hex()[:16])
        return None
    return envelope
