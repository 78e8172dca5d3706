"""What placement sees of the cluster: the projection, with the key epoch and the home nodes that only the node knows."""

from collections.abc import Callable

from veil.identity import parse_peer_id
from veil.store.objects import ObjectStore
from veil.store.projection import Projection
from veil.store.rows import LogRow, NodeRow, ObjectRow
from veil.types import ObjectId, PeerId
from veil.wire.codec import decode
from veil.wire.nodes import KeyEpoch
from veil.wire.objects import KINDS, Envelope


class NodeView:
    """Implements placement's ClusterView."""

    def __init__(self, projection: Projection, store: ObjectStore, key_epoch: Callable[[], KeyEpoch | None]) -> None:
        self._projection = projection
        self._store = store
        self._key_epoch = key_epoch

    def object(self, kind: int, object_id: ObjectId) -> ObjectRow | None:
        return self._projection.object(kind, object_id)

    def nodes(self) -> list[NodeRow]:
        return self._projection.nodes()

    def log(self, shard: int) -> list[LogRow]:
        return self._projection.log(shard)

    def log_at(self, shard: int, sequence: int) -> LogRow | None:
        return self._projection.log_at(shard, sequence)

    def finality(self, level: str) -> int:
        return self._projection.finality(level)

    def term_members(self, term: int) -> tuple[PeerId, ...]:
        return self._projection.term_members(term)

    def term_seed(self, term: int) -> bytes:
        return self._projection.term_seed(term)

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        return self._projection.subscribe(callback)

    def key_epoch(self) -> KeyEpoch | None:
        return self._key_epoch()

    def homes(self, object_id: ObjectId) -> tuple[PeerId, ...]:
        row = self._projection.object(KINDS["Workload"], object_id)
        if row is None:
            return ()
        namespace = self._store.find("Namespace", "", decode(row.envelope, Envelope).namespace)
        named = (namespace or {}).get("spec", {}).get("homePeers", [])
        return tuple(parse_peer_id(text) for text in named)
