"""The parts of a workload that are not on the chain, fetched by the digests of its envelope and opened where this node may."""

from collections.abc import Iterable, Mapping
from typing import Any

from veil.errors import Forbidden, MeshUnavailable, NotFound
from veil.identity import Identity
from veil.mesh.ports import Mesh
from veil.types import Digest, Secret
from veil.wire.codec import decode
from veil.wire.objects import BODY_MAX_BYTES, Body, Envelope, Resources, SealedPart
from veil.wire.sealed import home_key, open_part

FETCH_TIMEOUT_S = 5.0
SEALED_MAX_BYTES = 2 * BODY_MAX_BYTES
CACHE_MAX = 4096


class Contents:
    """Bodies and sealed parts, verified by digest; opened parts are kept in memory only."""

    def __init__(self, mesh: Mesh, identity: Identity) -> None:
        self._mesh = mesh
        self._identity = identity
        self._bodies: dict[Digest, Body] = {}
        self._parts: dict[Digest, bytes | None] = {}
        self._keys: dict[Digest, Secret | None] = {}
        self._lent: dict[Digest, Secret] = {}

    async def body(self, envelope: Envelope) -> Body | None:
        """The public part of the spec; None when there is none. Raises MeshUnavailable while nobody reachable has it."""
        if not envelope.body:
            return None
        digest = Digest(envelope.body)
        if digest not in self._bodies:
            self._bodies[digest] = decode(await self._fetch(digest), Body, max_bytes=BODY_MAX_BYTES)
            _bound(self._bodies)
        return self._bodies[digest]

    async def resources(self, envelope: Envelope) -> Resources | None:
        """The exact resources, where this node may read them; None elsewhere. Raises MeshUnavailable, Untrusted."""
        opened = await self._opened(Digest(envelope.resources))
        return None if opened is None else decode(opened, Resources)

    async def template(self, envelope: Envelope) -> Body | None:
        """A confidential template, where this node may read it; None elsewhere. Raises MeshUnavailable, Untrusted."""
        opened = await self._opened(Digest(envelope.template))
        return None if opened is None else decode(opened, Body, max_bytes=BODY_MAX_BYTES)

    async def key(self, digest: Digest) -> Secret | None:
        """The key to a sealed part, on a home node; None elsewhere. Raises MeshUnavailable, Untrusted."""
        if digest not in self._keys:
            part = await self._sealed(digest)
            try:
                self._keys[digest] = home_key(part, self._identity)
            except Forbidden:
                self._keys[digest] = None
            _bound(self._keys)
        return self._keys[digest]

    def lend(self, keys: Mapping[Digest, Secret], *, instead_of: Iterable[Digest]) -> None:
        """Open these sealed parts with ``keys``, which home nodes gave away, and those ``instead_of`` no more."""
        for digest in {*instead_of, *keys}:
            self._lent.pop(digest, None)
            self._parts.pop(digest, None)
        self._lent |= keys

    def is_lent(self, envelope: Envelope) -> bool:
        """Whether a home node gave a key to one of its sealed parts away to this node."""
        return bool({envelope.resources, envelope.template} & self._lent.keys())

    async def _opened(self, digest: Digest) -> bytes | None:
        if not digest:
            return None
        if digest not in self._parts:
            key = self._lent.get(digest) or await self.key(digest)
            self._parts[digest] = None if key is None else open_part(await self._sealed(digest), key)
            _bound(self._parts)
        return self._parts[digest]

    async def _sealed(self, digest: Digest) -> SealedPart:
        return decode(await self._fetch(digest), SealedPart, max_bytes=SEALED_MAX_BYTES)

    async def _fetch(self, digest: Digest) -> bytes:
        try:
            return await self._mesh.get(digest, deadline_s=FETCH_TIMEOUT_S)
        except NotFound as error:
            raise MeshUnavailable(f"no reachable member has content {digest.hex()[:16]}") from error


def _bound(cache: dict[Digest, Any]) -> None:
    """Drop the oldest entries past CACHE_MAX."""
    while len(cache) > CACHE_MAX:
        cache.pop(next(iter(cache)))
