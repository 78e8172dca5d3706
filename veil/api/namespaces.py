"""A Namespace's home nodes and rights in the registry: what nodes go by, and what its manifest is made of.

The Namespace object says what its owner wants; the registry's own functions say what is so. Each is a transaction of its own,
after the object: one that is refused leaves the earlier word in place, and the next apply sends what is missing.
"""

from collections.abc import Sequence
from typing import Any

from eth_utils.address import to_checksum_address

from veil.chain.ports import Registry
from veil.chain.records import Right
from veil.errors import ConfigInvalid
from veil.identity import parse_peer_id, peer_id_text
from veil.store.objects import Obj
from veil.store.projection import Projection
from veil.types import Address, PeerId
from veil.wire.objects import object_id

_RIGHTS = (("editors", Right.WRITE), ("viewers", Right.VIEW))


class Namespaces:
    """``name``: the Namespace's."""

    def __init__(self, chain: Registry, projection: Projection) -> None:
        self._chain = chain
        self._projection = projection

    def homes(self, name: str) -> tuple[PeerId, ...]:
        """As the registry has them."""
        return self._projection.namespace(object_id(name, "")[:16]).homes

    def check(self, obj: Obj) -> None:
        """Raises ConfigInvalid for a home node that the registry would not take."""
        known = {row.peer for row in self._projection.nodes() if row.status != "Gone"}
        if unknown := [peer for peer in _homes(obj) if peer not in known]:
            raise ConfigInvalid(
                f"spec.homePeers: {peer_id_text(unknown[0])} is no registered node",
                hint="`veil get nodes -o json` has the peer IDs of those that are",
            )

    async def anchor(self, obj: Obj, live: Obj | None) -> None:
        """Have the registry say what ``obj`` says of home nodes, editors and viewers, as far as it does not yet.

        Rights that were given otherwise stay: only what ``live`` named is taken back.
        """
        name = obj["metadata"]["name"]
        half = object_id(name, "")[:16]
        if (homes := _homes(obj)) != self.homes(name):
            await self._chain.set_home_peers(half, homes)
        wanted = _rights(obj)
        for account in sorted(wanted.keys() | _rights(live).keys()):
            rights = wanted.get(account, Right.NONE)
            if account != self._chain.operator and await self._chain.rights_of(half, account) != rights:
                await self._chain.set_access(half, account, rights)

    def anchored(self, obj: Obj) -> bool:
        """Whether this node has read its home nodes from the chain."""
        return self.homes(obj["metadata"]["name"]) == _homes(obj)


def _homes(obj: Obj) -> tuple[PeerId, ...]:
    return tuple(parse_peer_id(text) for text in _spec(obj).get("homePeers") or ())


def _rights(obj: Obj | None) -> dict[Address, Right]:
    found: dict[Address, Right] = {}
    for field, right in _RIGHTS:
        accounts: Sequence[str] = _spec(obj).get(field) or ()
        for text in accounts:
            account = Address(to_checksum_address(text))
            found[account] = found.get(account, Right.NONE) | right
    return found


def _spec(obj: Obj | None) -> dict[str, Any]:
    return (obj or {}).get("spec") or {}
