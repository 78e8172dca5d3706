"""What is sealed to home nodes, for accounts that may view it: their own nodes show it, as home nodes do.

Whom the owner of a namespace gives the right to view (`veil rights grant … view`, ``viewers``) reads through a node that it
operates. That node asks a home node, again and again, for the keys to sealed parts and for the replicas' statuses; the home node
looks the right up in the chain for every question. A key is tried on the part that the chain names by digest, so that a home
node can keep something back, and cannot invent it. When the right ends, what it opened is forgotten here; what people have read
by then, they have read.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from veil.errors import Forbidden, Unavailable, VeilError
from veil.identity import peer_id_text
from veil.mesh.ports import Mesh, PeerState
from veil.node.contents import Contents
from veil.node.envelopes import envelope_of
from veil.node.reports import InstanceReports
from veil.node.view import NodeView
from veil.store.projection import Projection
from veil.types import Digest, Generation, ObjectId, PeerId, Secret
from veil.wire.codec import decode, encode, sha256
from veil.wire.objects import KINDS, Envelope
from veil.wire.views import VIEW_REPLICAS_MAX, ViewAnswer, ViewedReplica, ViewedWorkload, ViewQuestion

log = logging.getLogger(__name__)

VIEW = "view/1"
VIEW_S = 5.0
"""How old what is shown may be: as often as winners tell home nodes."""

ASK_DEADLINE_S = 5.0
PAGE_MAX_BYTES = 1024 * 1024
"""A page ends with the workload that fills it."""

PAGES_MAX = 1024
"""Of one namespace; a home node that never ends is given up."""

Workloads = dict[ObjectId, Envelope]


@dataclass(slots=True)
class _Seen:
    """What is shown of one namespace."""

    pages: dict[bytes, tuple[Digest, ViewAnswer]] = field(default_factory=dict)
    """By the id after which each begins."""
    keys: dict[Digest, bytes] = field(default_factory=dict)
    replicas: set[tuple[ObjectId, int, int]] = field(default_factory=set)


class Viewing:
    """Answers viewers' nodes; and, where this node is one, shows what it is told. :meth:`sync` is level-triggered.

    ``on_keys`` is called when sealed parts can be opened, or cannot any more. What ``coordinates`` is known here anyway.
    """

    def __init__(
        self,
        *,
        mesh: Mesh,
        projection: Projection,
        view: NodeView,
        contents: Contents,
        reports: InstanceReports,
        coordinates: Callable[[ObjectId], bool],
        on_keys: Callable[[], None],
    ) -> None:
        self._mesh = mesh
        self._projection = projection
        self._view = view
        self._contents = contents
        self._reports = reports
        self._coordinates = coordinates
        self._on_keys = on_keys
        self._seen: dict[bytes, _Seen] = {}
        mesh.serve(VIEW, self._serve)

    def shows(self, object_id: ObjectId) -> bool:
        """Whether replicas of this workload are shown here because this node's operator may view them."""
        return object_id[:16] in self._seen

    async def sync(self) -> None:
        """Ask for every namespace that this node may view and is no home of; forget what it may not view any more."""
        wanted = self._wanted()
        for namespace in [namespace for namespace in self._seen if namespace not in wanted]:
            self._show(namespace, self._seen.pop(namespace), _Seen())
        for namespace, homes in wanted.items():
            await self._ask(namespace, homes)

    def _wanted(self) -> dict[bytes, tuple[PeerId, ...]]:
        """Home nodes by namespace."""
        found = {}
        for row in self._projection.objects(KINDS["Namespace"]):
            namespace = row.object_id[:16]
            homes = self._projection.namespace(namespace).homes
            if homes and self._mesh.peer_id not in homes and self._view.may_view(namespace, self._mesh.peer_id):
                found[namespace] = homes
        return found

    # asking

    async def _ask(self, namespace: bytes, homes: tuple[PeerId, ...]) -> None:
        """The first home node that answers; while none does, what was shown stays."""
        alive = {member.peer for member in self._mesh.members() if member.state is PeerState.ALIVE}
        before = self._seen.setdefault(namespace, _Seen())
        for home in (home for home in homes if home in alive):
            try:
                pages = await self._pages(namespace, home, before)
            except VeilError as error:
                log.info("%s does not show what is sealed to it: %s", peer_id_text(home)[-8:], error.message)
                continue
            if pages != before.pages:
                self._seen[namespace] = self._taken(namespace, pages)
                self._show(namespace, before, self._seen[namespace])
            return

    async def _pages(self, namespace: bytes, home: PeerId, before: _Seen) -> dict[bytes, tuple[Digest, ViewAnswer]]:
        """All of them. Raises what the mesh does, WireInvalid, Unavailable."""
        pages: dict[bytes, tuple[Digest, ViewAnswer]] = {}
        after = b""
        for _ in range(PAGES_MAX):
            known = before.pages.get(after)
            question = ViewQuestion(namespace=namespace, after=after, known=known[0] if known else b"")
            raw = await self._mesh.request(home, VIEW, encode(question), deadline_s=ASK_DEADLINE_S)
            answer, digest = decode(raw, ViewAnswer), sha256(raw)
            if answer.workloads is None and known:
                digest, answer = known
            pages[after] = digest, answer
            if not answer.more or not answer.workloads:
                return pages
            after = answer.workloads[-1].object_id
        raise Unavailable(f"over PAGES_MAX={PAGES_MAX} pages of one namespace")

    def _taken(self, namespace: bytes, pages: dict[bytes, tuple[Digest, ViewAnswer]]) -> _Seen:
        """What is told of workloads that the chain has in this namespace, and nothing else."""
        seen = _Seen(pages=pages)
        known = self._workloads(namespace)
        for workload in (one for _, answer in pages.values() for one in answer.workloads or ()):
            of = ObjectId(workload.object_id)
            envelope = known.get(of)
            if envelope is None:
                continue
            sealed = {envelope.resources, envelope.template} - {b""}
            seen.keys |= {Digest(part): key for part, key in workload.keys if part in sealed}
            if not self._coordinates(of):
                seen.replicas |= {(of, one.generation, one.replica) for one in workload.replicas}
        return seen

    def _show(self, namespace: bytes, before: _Seen, now: _Seen) -> None:
        if before.keys != now.keys:
            self._contents.lend({digest: Secret(key) for digest, key in now.keys.items()}, instead_of=before.keys)
            self._on_keys()
        for of, generation, replica in before.replicas - now.replicas:
            if not self._coordinates(of):
                self._reports.gone(of, Generation(generation), replica)
        for workload in (one for _, answer in now.pages.values() for one in answer.workloads or ()):
            of = ObjectId(workload.object_id)
            for one in workload.replicas:
                if (of, one.generation, one.replica) in now.replicas:
                    self._reports.report(of, Generation(one.generation), one.replica, one.status, one.bound)

    def _workloads(self, namespace: bytes) -> Workloads:
        rows = (row for row in self._projection.objects(KINDS["Workload"]) if row.object_id[:16] == namespace)
        live = (row for row in rows if not row.deleting)
        return {row.object_id: envelope for row in live if (envelope := envelope_of(row)) is not None}

    # answering

    async def _serve(self, sender: PeerId, payload: bytes) -> bytes:
        question = decode(payload, ViewQuestion)
        homes = self._projection.namespace(question.namespace).homes
        if self._mesh.peer_id not in homes or not self._view.may_view(question.namespace, sender):
            raise Forbidden("what is sealed to home nodes is for nodes whose operator may view the namespace")
        known, page, size_bytes, more = self._workloads(question.namespace), [], 0, False
        for of in sorted(of for of in known if of > question.after):
            if more := size_bytes > PAGE_MAX_BYTES:
                break
            page.append(await self._viewed(of, known[of]))
            size_bytes += len(encode(page[-1]))
        answer = encode(ViewAnswer(workloads=tuple(page), more=more))
        return encode(ViewAnswer(workloads=None, more=more)) if sha256(answer) == question.known else answer

    async def _viewed(self, of: ObjectId, envelope: Envelope) -> ViewedWorkload:
        keys = []
        for digest in (Digest(part) for part in (envelope.resources, envelope.template) if part):
            try:
                key = await self._contents.key(digest)
            except VeilError as error:
                log.info("a sealed part of %s is not here: %s", envelope.name, error.message)
                continue
            if key is not None:
                keys.append((digest, key.reveal()))
        replicas = [
            ViewedReplica(generation=generation, replica=replica, status=status, bound=bound)
            for (generation, replica), (status, bound) in sorted(self._reports.said_of(of).items())
        ]
        return ViewedWorkload(object_id=of, keys=tuple(keys), replicas=tuple(replicas[:VIEW_REPLICAS_MAX]))
