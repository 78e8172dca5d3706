"""Which containers in the runtime are this node's Instances': the only place that creates and removes them."""

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
        self.listed = False
        """The runtime was asked for everything at least once."""

    def keys(self) -> Set[InstanceKey]:
        """The Instances that have containers here."""
        return self._ids.keys()

    def owner(self, id: str) -> InstanceKey | None:
        """Whose container it is; None for one that is not ours."""
        return self._owners.get(id)

    async def learn(self) -> None:
        """Learn of every container with our labels."""
        for container in await self._runtime.list():
            if (key := owner_of(container.labels, self._node)) is not None:
                self._know(key, container.id)
        self.listed = True

    async def of(self, key: InstanceKey, expected: Iterable[str] = ()) -> list[Container]:
        """What the runtime has of an Instance now: the known ids and the ``expected`` ones that are there."""
        there: list[Container] = []
        for id in sorted({*expected, *self._ids.get(key, ())}):
            try:
                there.append(await self._runtime.state(id))
                self._know(key, id)
            except NotFound:
                self._forget(key, id)
        return there

    async def create(self, key: InstanceKey, spec: ContainerSpec) -> None:
        self._know(key, spec.id)
        await self._runtime.create(spec)

    async def remove(self, key: InstanceKey, id: str, *, grace_s: float) -> None:
        """Stop within the grace period, then delete every trace. Gone already = done."""
        try:
            await self._runtime.stop(id, grace_s=grace_s)
        except NotFound:
            pass
        else:
            await self._runtime.delete(id)
        self._forget(key, id)

    def _know(self, key: InstanceKey, id: str) -> None:
        self._ids.setdefault(key, set()).add(id)
        self._owners[id] = key

    def _forget(self, key: InstanceKey, id: str) -> None:
        self._owners.pop(id, None)
        ids = self._ids.get(key, set())
        ids.discard(id)
        if not ids:
            self._ids.pop(key, None)
