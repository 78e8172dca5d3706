"""Which containers in the runtime are this node's Instances': the only place that creates, starts, stops and removes them.

What the runtime said of a container (in a listing, or when it was started) serves one look at it, unless something happened to
the container since: then the runtime is asked again. So a look at everything costs one listing, however many there are.
"""

from collections.abc import Iterable, Set

from veil.agent.keys import InstanceKey, owner_of
from veil.errors import NotFound
from veil.runtime.ports import Container, ContainerSpec, Runtime


class Containers:
    """Ids by Instance. An id is known from before its creation until the runtime says that it is gone."""

    def __init__(self, runtime: Runtime, node: str) -> None:
        self._runtime = runtime
        self._node = node
        self._ids: dict[InstanceKey, set[str]] = {}
        self._owners: dict[str, InstanceKey] = {}
        self._views: dict[str, Container] = {}
        """What was said last, until it is used."""
        self._turn = 0
        self._touched: dict[str, int] = {}
        """The turn at which something last happened to each: what was asked for before that may not say so."""
        self.listed = False
        """The runtime was asked for everything at least once."""

    def keys(self) -> Set[InstanceKey]:
        """The Instances that have containers here."""
        return self._ids.keys()

    def happened(self, id: str) -> InstanceKey | None:
        """Something did, to the container ``id``. Whose it is; None for one that is not ours."""
        self._touch(id)
        return self._owners.get(id)

    async def learn(self) -> None:
        """Learn of every container with our labels."""
        turn = self._turn
        listing = await self._runtime.list()
        self._views.clear()
        for container in listing:
            if (key := owner_of(container.labels, self._node)) is not None:
                self._know(key, container.id)
                if self._touched.get(container.id, 0) <= turn:
                    self._views[container.id] = container
        self._touched = {id: turn for id, turn in self._touched.items() if id in self._owners}
        self.listed = True

    async def of(self, key: InstanceKey, expected: Iterable[str] = ()) -> list[Container]:
        """What there is of an Instance now: the known ids and, before everything was listed once, the ``expected`` ones."""
        known = self._ids.get(key, set())
        there: list[Container] = []
        for id in sorted(known if self.listed else {*expected, *known}):
            try:
                there.append(self._views.pop(id) if id in self._views else await self._runtime.state(id))
                self._know(key, id)
            except NotFound:
                self._forget(key, id)
        return there

    async def create(self, key: InstanceKey, spec: ContainerSpec) -> None:
        self._know(key, spec.id)
        self._touch(spec.id)
        try:
            await self._runtime.create(spec)
        finally:
            self._touch(spec.id)

    async def start(self, id: str) -> None:
        turn = self._touch(id)
        try:
            view = await self._runtime.start(id)
        finally:
            still, _ = self._touched.get(id) == turn, self._touch(id)
        if still:  # it has not ended meanwhile
            self._views[id] = view

    async def stop(self, id: str, *, grace_s: float) -> None:
        try:
            await self._runtime.stop(id, grace_s=grace_s)
        finally:
            self._touch(id)

    async def remove(self, key: InstanceKey, id: str, *, grace_s: float) -> None:
        """Stop within the grace period, then delete every trace. Gone already = done."""
        try:
            await self.stop(id, grace_s=grace_s)
        except NotFound:
            pass
        else:
            await self._runtime.delete(id)
        self._forget(key, id)

    def _touch(self, id: str) -> int:
        self._views.pop(id, None)
        self._turn += 1
        self._touched[id] = self._turn
        return self._turn

    def _know(self, key: InstanceKey, id: str) -> None:
        self._ids.setdefault(key, set()).add(id)
        self._owners[id] = key

    def _forget(self, key: InstanceKey, id: str) -> None:
        self._touch(id)
        self._owners.pop(id, None)
        ids = self._ids.get(key, set())
        ids.discard(id)
        if not ids:
            self._ids.pop(key, None)
