"""Gathers what there is of a placement, here and elsewhere, has it evaluated again, lets :mod:`veil.placement.audit` judge.

Who is told what: a member of the round's committee gets leaf and coordinator's transcript, because it decided and could open
the decision already; a home node of the workload gets the leaf, which each renewal brings it anyway; nobody else gets anything.
Telemetry is never given away: who has it evaluates again itself.
"""

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from veil.errors import DigestMismatch, Forbidden, InvalidInput, NotFound, VeilError
from veil.identity import peer_id_text
from veil.mesh.ports import Mesh, PeerState
from veil.node.envelopes import envelope_of
from veil.placement.audit import Evidence, Report, State, audit
from veil.placement.checks import read_commits, read_round
from veil.placement.local import Local
from veil.store.journal import Binding
from veil.store.objects import Obj
from veil.store.rows import LogRow
from veil.store.transcripts import Role, Transcripts
from veil.types import SHARDS, Digest, ObjectId, PeerId, RoundId, Shard
from veil.wire.audits import AuditAnswer, AuditQuestion
from veil.wire.codec import decode, digest, encode
from veil.wire.merkle import leaf_hash, proof_of
from veil.wire.objects import KINDS, Demand
from veil.wire.rounds import Bound, LeafBatch, Transcript

log = logging.getLogger(__name__)

Verify = Callable[[Shard, int, Digest, Sequence[Digest]], Awaitable[bool]]
"""Whether the contract has a leaf (shard, sequence, leaf, Merkle proof)."""

AUDIT = "audit/1"
ASK_DEADLINE_S = 5.0
"""For another node's answer, and for a content."""

VERDICTS = {State.OK: "agreed", State.LIE: "lie", State.MISSING: "incomplete"}


class Auditing:
    """Implements the API's Auditor, and answers other nodes' auditors."""

    def __init__(
        self,
        *,
        local: Local,
        mesh: Mesh,
        transcripts: Transcripts,
        bindings: Callable[[], list[Binding]],
        verify: Verify | None = None,
    ) -> None:
        self._local = local
        self._verify = verify
        self._mesh = mesh
        self._transcripts = transcripts
        self._bindings = bindings
        self._evaluating = asyncio.Lock()
        """One at a time: audits must not fill the evaluator's queue."""
        mesh.serve(AUDIT, self._serve)

    # for this node's own people

    async def audit(self, name: str) -> Obj:
        """The report on the Placement ``name``. Raises NotFound, InvalidInput."""
        row, batch, index, gaps = await self._leaf_of(name)
        evidence = await self._evidence(row, batch, index, gaps)
        return self._shown(name, evidence, audit(self._local, evidence))

    async def transcript(self, name: str) -> Obj:
        """What this node itself keeps of it, in canonical encoding (base64). Raises NotFound, InvalidInput, DigestMismatch."""
        row, batch, index, _ = await self._leaf_of(name)
        bound = self._own_bound(Digest(batch.leaves[index])) if batch else None
        found: dict[Role, Transcript] = {}
        if bound is not None:
            for role in _ROLES:
                if (one := self._transcripts.find(RoundId(bound.leaf.round), role)) is not None:
                    found[role] = one
        if bound is None:
            raise NotFound(f"this node keeps nothing of placement {name}", hint="ask the node that coordinated or runs it")
        return {
            "placement": name,
            "shard": row.shard,
            "sequence": row.sequence,
            "bound": _text(encode(bound)),
            "transcripts": [{"role": role, "content": _text(encode(one))} for role, one in found.items()],
        }

    async def _leaf_of(self, name: str) -> tuple[LogRow, LeafBatch | None, int, dict[str, str]]:
        shard, sequence, index = parse_name(name)
        row = self._local.view.log_at(shard, sequence) if shard < SHARDS else None
        if row is None or (index is not None and index >= row.count):
            raise NotFound(f'placements.veil.dev "{name}" not found', hint="`veil get placements` lists the newest")
        if index is None and row.count > 1:
            last = row.count - 1
            raise InvalidInput(f"append {name} has {row.count} leaves", hint=f"name one of them: {name}-0 to {name}-{last}")
        gaps: dict[str, str] = {}
        try:
            batch = decode(await self._mesh.get(row.data, deadline_s=ASK_DEADLINE_S), LeafBatch)
        except VeilError as error:
            batch, gaps["batch"] = None, error.message
        return row, batch, index or 0, gaps

    # evidence

    async def _evidence(self, row: LogRow, batch: LeafBatch | None, index: int, gaps: dict[str, str]) -> Evidence:
        known: dict[str, Any] = {}
        if batch is not None and index < len(batch.leaves):
            leaf = Digest(batch.leaves[index])
            known |= await self._told(row, leaf, gaps)
            known["verified"] = await self._verified(row, batch, index, gaps)
        bound: Bound | None = known.get("bound")
        member = self._kept(RoundId(bound.leaf.round), "member", gaps) if bound is not None else None
        in_committee = self._local.epoch is not None and self._local.peer in self._local.epoch.key_epoch.committee
        evaluation = await self._evaluated(member, gaps) if member is not None else None
        return Evidence(
            row=row,
            index=index,
            batch=batch,
            member=member,
            in_committee=in_committee,
            evaluation=evaluation,
            gaps=gaps,
            **known,
        )

    async def _verified(self, row: LogRow, batch: LeafBatch, index: int, gaps: dict[str, str]) -> bool | None:
        """What the contract says of the leaf; None when it was not asked, or did not answer."""
        if self._verify is None:
            return None
        leaves = [Digest(leaf) for leaf in batch.leaves]
        try:
            return await self._verify(Shard(row.shard), row.sequence, leaves[index], proof_of(leaves, index))
        except VeilError as error:
            gaps["verified"] = error.message
            return None

    async def _told(self, row: LogRow, leaf: Digest, gaps: dict[str, str]) -> dict[str, Any]:
        """Leaf and coordinator's transcript: from here, else from the appender's nodes, else from whoever is alive."""
        answers = [(self._local.peer, self._own_answer(leaf, gaps))]
        appenders = {node.peer for node in self._local.view.nodes() if node.operator == row.sender}
        alive = [member.peer for member in self._mesh.members() if member.state is PeerState.ALIVE]
        others = [peer for peer in alive if peer != self._local.peer]
        for group in ([peer for peer in others if peer in appenders], [peer for peer in others if peer not in appenders]):
            if any(answer.bound for _, answer in answers) and any(answer.transcript for _, answer in answers):
                break
            answers += await self._ask(group, leaf)
        known: dict[str, Any] = {}
        for peer, answer in answers:
            if answer.bound is not None and "bound" not in known:
                known |= {"bound": answer.bound, "bound_from": peer}
            if answer.transcript is not None and "coordinator" not in known:
                known |= {"coordinator": answer.transcript, "coordinator_from": peer}
        return known

    async def _ask(self, peers: Sequence[PeerId], leaf: Digest) -> list[tuple[PeerId, AuditAnswer]]:
        question = encode(AuditQuestion(leaf=leaf))

        async def one(peer: PeerId) -> tuple[PeerId, AuditAnswer] | None:
            try:
                answer = await self._mesh.request(peer, AUDIT, question, deadline_s=ASK_DEADLINE_S)
                return peer, decode(answer, AuditAnswer)
            except VeilError as error:
                log.info("%s tells nothing of leaf %s: %s", peer_id_text(peer)[-8:], leaf.hex()[:16], error.message)
                return None

        return [answer for answer in await asyncio.gather(*(one(peer) for peer in peers)) if answer is not None]

    async def _evaluated(self, member: Transcript, gaps: dict[str, str]) -> Digest | None:
        """This node's evaluator on this node's telemetry; None, with the gap's reason, when that cannot be."""
        parts = self._local.epoch
        try:
            opened, inputs = read_round(self._local, member.open, member.inputs)
            commits = read_commits(self._local, opened, inputs)
            if parts is None or parts.key_epoch.epoch != opened.epoch or parts.evaluator is None:
                raise NotFound("no evaluator of that key epoch runs here (see `veil doctor`)")
            vectors = dict(zip(commits, member.telemetry, strict=False))
            telemetry = [vectors.get(PeerId(peer)) for peer in opened.candidates]
            demand = await self._demand(Digest(opened.demand))
            async with self._evaluating:
                return (await parts.evaluator.evaluate(opened.circuit, demand, telemetry)).digest
        except VeilError as error:
            gaps["evaluation"] = error.message
            return None

    async def _demand(self, wanted: Digest) -> bytes:
        demand = decode(await self._mesh.get(wanted, deadline_s=ASK_DEADLINE_S), Demand)
        if digest(demand) != wanted:
            raise DigestMismatch("the workload's demand is not what the opening names")
        return demand.vector

    # what this node keeps

    def _own_bound(self, leaf: Digest) -> Bound | None:
        """Kept as coordinator, or held as winner."""
        if (bound := self._transcripts.find_leaf(leaf)) is not None:
            return bound
        held = (decode(binding.bound, Bound) for binding in self._bindings() if binding.bound)
        return next((bound for bound in held if leaf_hash(bound.leaf) == leaf), None)

    def _own_answer(self, leaf: Digest, gaps: dict[str, str]) -> AuditAnswer:
        """A damaged file is as none, and a gap."""
        try:
            bound = self._own_bound(leaf)
        except VeilError as error:
            log.error("%s", error.message)
            gaps["bound"] = error.message
            bound = None
        transcript = self._kept(RoundId(bound.leaf.round), "coordinator", gaps) if bound is not None else None
        return AuditAnswer(bound=bound, transcript=transcript)

    def _kept(self, round: RoundId, role: Role, gaps: dict[str, str]) -> Transcript | None:
        try:
            return self._transcripts.find(round, role)
        except VeilError as error:
            log.error("%s", error.message)
            gaps[role] = error.message
            return None

    # for others

    async def _serve(self, peer: PeerId, payload: bytes) -> bytes:
        """Raises Forbidden, NotFound."""
        answer = self._own_answer(Digest(decode(payload, AuditQuestion).leaf), {})
        bound = answer.bound
        if bound is None:
            raise NotFound("no such leaf is known here")
        epoch = self._local.epoch.key_epoch if self._local.epoch else None
        if epoch is not None and epoch.epoch == bound.leaf.epoch and peer in epoch.committee:
            return encode(answer)
        if peer in self._local.view.homes(ObjectId(bound.leaf.object_id)):
            return encode(AuditAnswer(bound=bound, transcript=None))
        raise Forbidden("placements are audited by members of their round's committee and home nodes of the workload")

    # what is shown

    def _shown(self, name: str, evidence: Evidence, report: Report) -> Obj:
        bound = evidence.bound
        shown: Obj = {
            "placement": name,
            "verdict": VERDICTS[report.state],
            "block": evidence.row.block,
            "reevaluated": evidence.evaluation is not None,
            "checks": [
                {
                    "check": result.check,
                    "state": str(result.state),
                    "message": result.message,
                    "liars": [self._named(peer) for peer in result.liars],
                }
                for result in report.results
            ],
            "liars": [self._named(peer) for peer in report.liars],
        }
        if bound is not None:
            row = self._local.view.object(KINDS["Workload"], ObjectId(bound.leaf.object_id))
            envelope = envelope_of(row) if row is not None else None
            shown |= {
                "workload": f"{envelope.namespace}/{envelope.name}" if envelope is not None else bound.leaf.object_id.hex(),
                "replica": bound.leaf.replica,
                "checked": bound.leaf.checked,
                "round": bound.leaf.round.hex(),
                "epoch": bound.leaf.epoch,
                "winner": self._named(PeerId(bound.leaf.peer)),
            }
        return shown

    def _named(self, peer: PeerId) -> Obj:
        node = next((row for row in self._local.view.nodes() if row.peer == peer), None)
        return {"node": node.name if node else "", "peer": peer_id_text(peer)}


_ROLES: tuple[Role, ...] = ("coordinator", "member")


def parse_name(name: str) -> tuple[int, int, int | None]:
    """Shard, sequence and index of a Placement's name, ``3-17-0``; the index may be left out. Raises InvalidInput."""
    parts = name.split("-")
    if len(parts) not in (2, 3) or not all(part.isascii() and part.isdigit() and len(part) < 16 for part in parts):
        raise InvalidInput(f"{name!r} is no placement", hint="shard-sequence-index, as `veil get placements` shows it")
    shard, sequence, *index = map(int, parts)
    return shard, sequence, index[0] if index else None


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
