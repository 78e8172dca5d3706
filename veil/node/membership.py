"""Who may be in the mesh, and what this node says of itself in the registry."""

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import structs

from veil.chain.ports import Registry
from veil.errors import ConfigInvalid
from veil.identity import Identity, parse_peer_id
from veil.mesh.ports import Mesh
from veil.node.claims import ShareClaims
from veil.store.journal import Journal
from veil.store.projection import Projection
from veil.store.rows import NodeRow
from veil.types import PeerId
from veil.wire.codec import encode
from veil.wire.nodes import NodeInfo
from veil.wire.signed import sign

log = logging.getLogger(__name__)

SEQUENCE = "node-info"
REPUBLISH_S = 30.0
"""How long what was published may take to be read back, before it is published again (a reorg may have dropped it)."""

ADDRESSES_MAX = 8
"""What a NodeInfo takes; more would be ignored by every reader."""

MEMBER_STATUSES = ("Active", "Cordoned")


def bootstrap_addresses(texts: Iterable[str]) -> dict[PeerId, tuple[str, ...]]:
    """Multiaddrs with a /p2p part by peer, without that part. Raises ConfigInvalid."""
    found: dict[PeerId, tuple[str, ...]] = {}
    for text in texts:
        address, separator, peer = text.rpartition("/p2p/")
        if not address or not separator:
            raise ConfigInvalid(
                f"VEIL_LIBP2P_BOOTSTRAP: {text!r} has no /p2p part", hint="for example /ip4/…/tcp/…/p2p/12D3KooW…"
            )
        found[parse_peer_id(peer)] = (*found.get(parse_peer_id(peer), ()), address)
    return found


def members_of(projection: Projection) -> dict[PeerId, NodeRow]:
    """Who may be in the mesh: proven, and Active or Cordoned."""
    return {row.peer: row for row in projection.nodes() if row.proven and row.status in MEMBER_STATUSES}


class Membership:
    """Level-triggered: the mesh's gate follows the registry, and the registry has this node's newest addresses."""

    def __init__(
        self,
        *,
        identity: Identity,
        name: str,
        chain: Registry,
        mesh: Mesh,
        projection: Projection,
        journal: Journal,
        addresses: Callable[[], Sequence[str]],
        labels: dict[str, str],
        taints: dict[str, str],
        claims: ShareClaims,
        bootstrap: Mapping[PeerId, tuple[str, ...]] | None = None,
    ) -> None:
        """``bootstrap``: where registered peers are found besides where they say themselves. It lets nobody in."""
        self._identity = identity
        self._name = name
        self._chain = chain
        self._mesh = mesh
        self._projection = projection
        self._journal = journal
        self._addresses = addresses
        self._labels = labels
        self._taints = taints
        self._claims = claims
        self._bootstrap = bootstrap or {}
        self._allowed: dict[PeerId, tuple[str, ...]] | None = None
        self._published: tuple[NodeInfo | None, float] = (None, -math.inf)

    async def sync(self) -> None:
        """Open the gate for exactly the registered; publish a changed NodeInfo."""
        allowed = {peer: self._addresses_of(row) for peer, row in members_of(self._projection).items()}
        if allowed != self._allowed:
            self._mesh.allow(dict(allowed))
            self._allowed = allowed
        await self._publish()

    def _addresses_of(self, row: NodeRow) -> tuple[str, ...]:
        said = tuple(row.info.addresses) if row.info else ()
        return tuple(dict.fromkeys((*said, *self._bootstrap.get(row.peer, ()))))

    async def _publish(self) -> None:
        """Not before the registry's newest word is known: what it says of this node's journals must not be lost."""
        row = self._projection.node(self._identity.peer_id)
        if row is None or row.status not in MEMBER_STATUSES or not self._claims.readable:
            return
        info = self._info(row.info.sequence if row.info else 0)
        if not info.addresses or (row.info is not None and _content(row.info) == _content(info)):
            return
        last, at_s = self._published
        now_s = asyncio.get_running_loop().time()
        if last is not None and _content(last) == _content(info) and now_s - at_s < REPUBLISH_S:
            return
        self._journal.counters.raise_to(SEQUENCE, info.sequence - 1)
        info = structs.replace(info, sequence=self._journal.counters.next(SEQUENCE))
        await self._chain.publish_node_info(self._identity.peer_id, encode(sign(self._identity, self._chain.cluster, info)))
        self._published = (info, now_s)
        log.info("published addresses and journals, sequence %d", info.sequence)

    def _info(self, last_sequence: int) -> NodeInfo:
        """What the registry should say now."""
        return NodeInfo(
            peer=self._identity.peer_id,
            sequence=last_sequence + 1,
            name=self._name,
            addresses=tuple(self._addresses())[:ADDRESSES_MAX],
            labels=self._labels,
            taints=self._taints,
            journals=self._claims.wanted(),
        )


def _content(info: NodeInfo) -> NodeInfo:
    """All but what changes with each publication."""
    return structs.replace(info, sequence=0, gateway="")
