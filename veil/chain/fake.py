"""The Chain port in memory, for the unit tests of other parts: same rules and errors, blocks under the test's control.

Several accounts share one :class:`~veil.chain.fake_ledger.Ledger`. Faults: ``ledger.reorg(depth)``, ``ledger.mine()``,
``ledger.hide(rv)``, ``ledger.away``, ``ledger.paused``. It passes the conformance tests that the real client passes.
"""

import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from eth_utils.address import to_checksum_address

from veil.chain import ports
from veil.chain.fake_extension import FakeExtension
from veil.chain.fake_ledger import (
    DOWN_SIGNERS_MAX,
    INCARNATION_AHEAD_MAX_S,
    NAMESPACE,
    Ledger,
    NodeRecord,
    ObjectRecord,
    State,
    forbidden,
    next_generation,
    require_generation,
)
from veil.chain.ports import (
    EMPTY_HEAD,
    ENVELOPE_MAX_BYTES,
    INFO_MAX_BYTES,
    POLICY_MAX_BYTES,
    Block,
    BlockEvents,
    ChainEvent,
    Finality,
    Finalized,
    Head,
    NodeStatus,
    Rollback,
)
from veil.chain.records import EpochParts, Right
from veil.errors import AlreadyExists, Conflict, HeadMismatch, InvalidInput, LimitExceeded
from veil.identity import cluster_id
from veil.types import SHARDS, Address, Digest, Generation, ObjectId, PeerId, Shard
from veil.wire.merkle import is_in
from veil.wire.objects import KINDS

FAKE_REGISTRY = Address("0x" + "fa" * 20)

FAKE_PARTS = EpochParts(
    public_key=Digest(b"k" * 32),
    evaluation_keys=Digest(b"e" * 32),
    circuits=Digest(b"c" * 32),
    committee=Digest(b"m" * 32),
    size=3,
    threshold=2,
)
"""Of an epoch whose parts nobody looks at."""

_DEPTHS = {Finality.LATEST: 0, Finality.SAFE: 1, Finality.FINALIZED: 2}


@dataclass(frozen=True, slots=True)
class FakeReceipt:
    tx_hash: bytes
    block: int
    gas_used: int = 60_000


def fake_signature(operator: Address, peer: PeerId, incarnation: int) -> bytes:
    """What stands for an EIP-712 signature: 65 bytes that only name their signer."""
    body = hashlib.sha256(operator.encode() + peer + incarnation.to_bytes(8, "big")).digest()
    return bytes.fromhex(operator[2:]) + body + bytes(13)


class FakeChain(FakeExtension):
    """One account's view of a :class:`Ledger`. Implements :class:`veil.chain.ports.Registry`."""

    def __init__(self, ledger: Ledger, operator: Address) -> None:
        self.ledger = ledger
        self.operator = operator
        self.cluster = cluster_id(31337, FAKE_REGISTRY)

    async def start(self) -> None:
        self.ledger.reachable()

    async def close(self) -> None:
        """Nothing is held."""

    # objects

    async def apply_object(
        self, kind: int, object_id: ObjectId, expected: Generation, envelope: bytes, *, finalizers: int = 0
    ) -> Generation:
        if len(envelope) > ENVELOPE_MAX_BYTES:
            raise LimitExceeded(f"envelope of {len(envelope)} bytes, ENVELOPE_MAX_BYTES is {ENVELOPE_MAX_BYTES}")
        if kind not in KINDS.values() or (kind == NAMESPACE and any(object_id[16:])):
            raise InvalidInput(f"kind {kind} with object {object_id.hex()} is not taken by the generic path")
        result: list[Generation] = []

        def change(state: State) -> list[ChainEvent]:
            record = state.objects.get((kind, object_id))
            live = record is not None and record.live
            if live or kind != NAMESPACE:
                self._may_write(state, kind, object_id)
            elif state.restricted and not state.has_role("REQUESTER", self.operator):
                raise forbidden(f"{self.operator} does not hold the role REQUESTER")
            require_generation(object_id, expected, record.generation if record and live else 0)
            if record is None or not live:
                self._count(state, kind, object_id, 1)
                owner = self.operator
            else:
                owner = record.owner
                if record.deleting:
                    raise Conflict(f"object {object_id.hex()} is being deleted", hint="wait until it is gone")
            generation = next_generation(record)
            objects = record.objects if record else 0
            state.objects[kind, object_id] = ObjectRecord(owner, generation, finalizers, objects=objects)
            result.append(generation)
            return [
                state.emit(
                    lambda rv: ports.ObjectApplied(
                        rv=rv, kind=kind, object_id=object_id, generation=generation, owner=owner, envelope=envelope
                    )
                )
            ]

        self.ledger.write(change)
        return result[0]

    def _may_write(self, state: State, kind: int, object_id: ObjectId) -> None:
        if not self.ledger.acl:
            return
        namespace = state.live_object(NAMESPACE, object_id[:16] + bytes(16))
        if state.owns(namespace.owner, self.operator):
            return
        needed = Right.EDIT if kind == KINDS["GitSource"] else Right.WRITE
        if state.rights_of(object_id[:16], self.operator) & needed != needed or kind == NAMESPACE:
            raise forbidden(f"{self.operator} may not write in the namespace {object_id[:16].hex()}")

    def _count(self, state: State, kind: int, object_id: ObjectId, step: int) -> None:
        """A namespace counts its live objects, so that it cannot be deleted from under them."""
        if kind == NAMESPACE or not self.ledger.acl:
            return
        key = (NAMESPACE, object_id[:16] + bytes(16))
        namespace = state.live_object(*key)
        if step > 0 and namespace.deleting:
            raise Conflict(f"the namespace {object_id[:16].hex()} is being deleted", hint="wait until it is gone")
        state.objects[key] = replace(namespace, objects=namespace.objects + step)

    async def delete_object(self, kind: int, object_id: ObjectId, expected: Generation) -> None:
        def change(state: State) -> list[ChainEvent]:
            record = state.live_object(kind, object_id)
            self._may_write(state, kind, object_id)
            require_generation(object_id, expected, record.generation)
            if record.deleting:
                raise Conflict(f"object {object_id.hex()} is being deleted", hint="wait until it is gone")
            if record.objects:
                raise Conflict(f"the namespace {object_id[:16].hex()} is not empty", hint="delete its objects first")
            if not record.finalizers:
                return [self._purge(state, kind, object_id, record)]
            generation = next_generation(record)
            state.objects[kind, object_id] = replace(record, generation=generation, deleting=True)
            return [
                state.emit(
                    lambda rv: ports.ObjectApplied(
                        rv=rv,
                        kind=kind,
                        object_id=object_id,
                        generation=generation,
                        owner=record.owner,
                        envelope=b"",
                        deleting=True,
                    )
                )
            ]

        self.ledger.write(change)

    def _purge(self, state: State, kind: int, object_id: ObjectId, record: ObjectRecord) -> ChainEvent:
        if kind == NAMESPACE:
            state.home_peers.pop(object_id[:16], None)
        elif self.ledger.acl:
            key = (NAMESPACE, object_id[:16] + bytes(16))
            namespace = state.live_object(*key)
            state.objects[key] = replace(namespace, objects=namespace.objects - 1)
        generation = Generation(record.generation)
        state.objects[kind, object_id] = ObjectRecord(record.owner, generation, live=False)
        return state.emit(lambda rv: ports.ObjectDeleted(rv=rv, kind=kind, object_id=object_id, generation=generation))

    async def remove_finalizer(self, kind: int, object_id: ObjectId, mask: int) -> None:
        def change(state: State) -> list[ChainEvent]:
            record = state.live_object(kind, object_id)
            if not state.is_member(self.operator):
                self._may_write(state, kind, object_id)
            left = record.finalizers & ~mask
            if record.deleting and not left:
                return [self._purge(state, kind, object_id, record)]
            state.objects[kind, object_id] = replace(record, finalizers=left)
            return [state.emit(lambda rv: ports.OtherEvent(rv=rv, name="FinalizersChanged"))]

        self.ledger.write(change)

    # placement log

    async def append_placements(self, shard: Shard, sequence: int, root: Digest, count: int, data: Digest) -> FakeReceipt:
        if not 0 <= shard < SHARDS or not count or not any(root):
            raise InvalidInput(f"append of {count} leaves to shard {shard}", hint=f"shards are 0 to {SHARDS - 1}, count over 0")

        def change(state: State) -> list[ChainEvent]:
            self._member(state)
            actual = state.sequences.get(shard, 0) + 1
            if sequence != actual:
                raise Conflict(f"shard {shard} takes sequence {actual}, not {sequence}", hint="read the log again")
            state.sequences[shard] = sequence
            state.roots[shard, sequence] = root
            return [
                state.emit(
                    lambda rv: ports.PlacementsAppended(
                        rv=rv, shard=shard, sequence=sequence, root=root, count=count, data=data, sender=self.operator
                    )
                )
            ]

        block = self.ledger.write(change)
        return FakeReceipt(hashlib.sha256(self.ledger.blocks[block].block.hash).digest(), block)

    async def placement_sequence(self, shard: Shard) -> int:
        self.ledger.reachable()
        return self.ledger.state.sequences.get(shard, 0)

    async def verify_placement(self, shard: Shard, sequence: int, leaf: Digest, proof: Sequence[Digest]) -> bool:
        root = self.ledger.state.roots.get((shard, sequence))
        return root is not None and is_in(leaf, proof, root)

    def _member(self, state: State) -> None:
        if self.ledger.acl and not state.is_member(self.operator):
            raise forbidden(f"{self.operator} operates no Active node")

    # nodes

    async def register_node(self, peer: PeerId, operator: Address) -> None:
        self._register(peer, operator, b"")

    async def register_node_with_proof(self, peer: PeerId, operator: Address, proof: bytes) -> None:
        _require_proof(proof)
        self._register(peer, operator, proof)

    def _register(self, peer: PeerId, operator: Address, proof: bytes) -> None:
        def change(state: State) -> list[ChainEvent]:
            if self.operator != operator and not state.has_role("NODE_ADMIN", self.operator):
                raise forbidden(f"{self.operator} registers a node for {operator}")
            record = state.nodes.get(peer)
            if record is not None and record.status is not NodeStatus.GONE:
                raise AlreadyExists(f"node {peer.hex()} is registered", hint="an administrator can remove it")
            floor = record.floor if record else 0
            state.nodes[peer] = NodeRecord(operator, NodeStatus.PENDING, bool(proof), floor=floor)
            return [state.emit(lambda rv: ports.NodeRegistered(rv=rv, peer=peer, operator=operator, proof=proof))]

        self.ledger.write(change)

    async def prove_node(self, peer: PeerId, proof: bytes) -> None:
        _require_proof(proof)

        def change(state: State) -> list[ChainEvent]:
            record = self._own_node(state, peer)
            if record.status is not NodeStatus.PENDING:
                raise Conflict(f"node {peer.hex()} is {record.status}, not Pending")
            state.nodes[peer] = replace(record, proven=True)
            return [state.emit(lambda rv: ports.NodeRegistered(rv=rv, peer=peer, operator=record.operator, proof=proof))]

        self.ledger.write(change)

    async def approve_node(self, peer: PeerId) -> None:
        def change(state: State) -> list[ChainEvent]:
            self._role(state, "NODE_ADMIN")
            record = state.node(peer)
            if record.status is not NodeStatus.PENDING or not record.proven:
                raise Conflict(f"node {peer.hex()} is {record.status}, proven: {record.proven}")
            return self._status(state, peer, record, NodeStatus.ACTIVE)

        self.ledger.write(change)

    async def remove_node(self, peer: PeerId) -> None:
        def change(state: State) -> list[ChainEvent]:
            self._role(state, "NODE_ADMIN")
            record, bond = state.node(peer), state.bond(peer)
            liable = bool(bond.amount_wei or bond.disputes) and record.status in (NodeStatus.ACTIVE, NodeStatus.CORDONED)
            return self._status(state, peer, record, NodeStatus.LEAVING if liable else NodeStatus.GONE)

        self.ledger.write(change)

    async def set_node_status(self, peer: PeerId, status: NodeStatus) -> None:
        def change(state: State) -> list[ChainEvent]:
            record = state.node(peer)
            if self.operator != record.operator and not state.has_role("NODE_ADMIN", self.operator):
                raise forbidden(f"{self.operator} does not operate node {peer.hex()}")
            if (record.status, status) not in _STEPS:
                raise Conflict(f"node {peer.hex()} is {record.status}: it cannot become {status}")
            return self._status(state, peer, record, status)

        self.ledger.write(change)

    def _status(self, state: State, peer: PeerId, record: NodeRecord, status: NodeStatus) -> list[ChainEvent]:
        return state.set_status(peer, record, status, now_s=self.ledger.next_timestamp_s)

    async def publish_node_info(self, peer: PeerId, info: bytes) -> None:
        if len(info) > INFO_MAX_BYTES:
            raise LimitExceeded(f"node info of {len(info)} bytes, INFO_MAX_BYTES is {INFO_MAX_BYTES}")

        def change(state: State) -> list[ChainEvent]:
            self._own_node(state, peer)
            return [state.emit(lambda rv: ports.NodeInfoPublished(rv=rv, peer=peer, info=info))]

        self.ledger.write(change)

    def _own_node(self, state: State, peer: PeerId) -> NodeRecord:
        record = state.node(peer)
        if record.operator != self.operator:
            raise forbidden(f"{self.operator} does not operate node {peer.hex()}")
        return record

    async def sign_mark_down(self, peer: PeerId, incarnation: int) -> bytes:
        return fake_signature(self.operator, peer, incarnation)

    def mark_down_signer(self, peer: PeerId, incarnation: int, signature: bytes) -> Address | None:
        named = "0x" + signature[:20].hex()
        spelled = (Address(named), Address(to_checksum_address(named))) if len(signature) == 65 else ()
        return next((one for one in spelled if fake_signature(one, peer, incarnation) == signature), None)

    async def down_floor(self, peer: PeerId) -> int:
        record = self.ledger.read().nodes.get(peer)
        return record.floor if record else 0

    async def down_signers(self) -> int:
        return self.ledger.read().needed_signers()

    async def mark_down(self, peer: PeerId, incarnation: int, signatures: Sequence[bytes]) -> None:
        def change(state: State) -> list[ChainEvent]:
            record = state.node(peer)
            self._require_near(incarnation)
            if incarnation <= record.floor:
                raise Conflict(f"node {peer.hex()} was marked at incarnation {record.floor}, not below {incarnation}")
            signers = {
                node.operator
                for node in state.nodes.values()
                if node.status in (NodeStatus.ACTIVE, NodeStatus.CORDONED)
                and fake_signature(node.operator, peer, incarnation) in signatures
            }
            if len(signers) != len(set(signatures)) or len(signers) < state.needed_signers():
                raise forbidden(f"{len(signers)} operators sign, {state.needed_signers()} must")
            state.nodes[peer] = replace(record, down=True, floor=incarnation)
            return [state.emit(lambda rv: ports.NodeMarkedDown(rv=rv, peer=peer, incarnation=incarnation))]

        self.ledger.write(change)

    async def mark_up(self, peer: PeerId, incarnation: int) -> None:
        def change(state: State) -> list[ChainEvent]:
            record = self._own_node(state, peer)
            self._require_near(incarnation)
            if not record.down or incarnation <= record.floor:
                raise Conflict(f"node {peer.hex()}: down {record.down}, marked at incarnation {record.floor}")
            state.nodes[peer] = replace(record, down=False, floor=incarnation - 1)
            return [state.emit(lambda rv: ports.NodeMarkedUp(rv=rv, peer=peer, incarnation=incarnation))]

        self.ledger.write(change)

    def _require_near(self, incarnation: int) -> None:
        if incarnation > (limit := self.ledger.next_timestamp_s + INCARNATION_AHEAD_MAX_S):
            raise LimitExceeded(f"incarnation {incarnation}, the registry takes {limit}")

    # policy, notes

    async def set_policy(self, policy: bytes) -> None:
        if len(policy) > POLICY_MAX_BYTES:
            raise LimitExceeded(f"policy of {len(policy)} bytes, POLICY_MAX_BYTES is {POLICY_MAX_BYTES}")

        def change(state: State) -> list[ChainEvent]:
            self._role(state, "POLICY_ADMIN")
            state.policy = policy
            return [state.emit(lambda rv: ports.PolicyChanged(rv=rv, policy=policy))]

        self.ledger.write(change)

    async def get_policy(self) -> bytes:
        self.ledger.reachable()
        return self.ledger.state.policy

    async def set_down_signers(self, count: int) -> None:
        if count > DOWN_SIGNERS_MAX:
            raise LimitExceeded(f"{count} signers, DOWN_SIGNERS_MAX is {DOWN_SIGNERS_MAX}")

        def change(state: State) -> list[ChainEvent]:
            self._role(state, "POLICY_ADMIN")
            state.down_signers = count
            return [state.emit(lambda rv: ports.OtherEvent(rv=rv, name="DownSignersChanged"))]

        self.ledger.write(change)

    async def anchor_deployment(self, assignment: Digest) -> bool:
        def change(state: State) -> list[ChainEvent]:
            self._member(state)
            if assignment in state.anchored:
                raise AlreadyExists(f"assignment {assignment.hex()} is anchored")
            state.anchored.add(assignment)
            return [state.emit(lambda rv: ports.OtherEvent(rv=rv, name="DeploymentAnchored"))]

        self.ledger.write(change)
        return True

    # reading

    async def head(self) -> Head:
        self.ledger.reachable()
        return self.ledger.state.head

    async def follow(
        self, *, from_block: int, from_head: Head, known: Sequence[Block] = ()
    ) -> AsyncIterator[BlockEvents | Rollback | Finalized]:
        cursor = _Cursor(self.ledger, from_block, from_head, known)
        while True:
            if self.ledger.away:
                await self.ledger.changed()
                continue
            fork = cursor.fork()
            if fork < cursor.tip:
                yield cursor.back_to(fork)
                continue
            if cursor.tip == len(self.ledger.blocks) - 1:
                await self.ledger.changed()
                continue
            yield cursor.forward()
            for finality, depth in _DEPTHS.items():
                if cursor.tip >= depth:
                    yield Finalized(finality, cursor.tip - depth)


class _Cursor:
    """Where one follower stands, and which hashes it remembers."""

    def __init__(self, ledger: Ledger, tip: int, head: Head, known: Sequence[Block]) -> None:
        self._ledger = ledger
        self.tip = tip
        self.head = head
        self._seen = {block.number: block.hash for block in known if block.number <= tip}
        self._unproven = tip > 0 and tip not in self._seen

    def fork(self) -> int:
        """The newest block of this cursor that is canonical: ``tip`` unless a reorg happened."""
        blocks = self._ledger.blocks
        if self._unproven:
            self._unproven = False
            if self.tip < len(blocks) and blocks[self.tip].head == self.head:
                self._seen[self.tip] = blocks[self.tip].block.hash
        if not self._seen and self.tip == 0:
            return 0
        good = (n for n, h in self._seen.items() if n < len(blocks) and blocks[n].block.hash == h)
        return max(good, default=0)

    def back_to(self, number: int) -> Rollback:
        self.tip = number
        self.head = self._ledger.blocks[number].head if number else EMPTY_HEAD
        self._seen = {n: h for n, h in self._seen.items() if n <= number}
        return Rollback(number)

    def forward(self) -> BlockEvents:
        self.tip += 1
        block = self._ledger.blocks[self.tip]
        events = self._ledger.shown(self.tip)
        if self.head.rv + len(events) != block.head.rv:
            raise HeadMismatch(
                f"block {self.tip}: {len(events)} events after rv {self.head.rv}, head() says {block.head.rv}",
                hint="ask another RPC endpoint",
            )
        self.head = block.head
        self._seen[self.tip] = block.block.hash
        return BlockEvents(block.block, events, block.head)


_STEPS = {
    (NodeStatus.ACTIVE, NodeStatus.CORDONED),
    (NodeStatus.CORDONED, NodeStatus.ACTIVE),
    (NodeStatus.ACTIVE, NodeStatus.LEAVING),
    (NodeStatus.CORDONED, NodeStatus.LEAVING),
    (NodeStatus.PENDING, NodeStatus.GONE),
    (NodeStatus.LEAVING, NodeStatus.GONE),
}
"""What an operator may do; Pending becomes Active by approval only."""


def _require_proof(proof: bytes) -> None:
    if len(proof) != 64:
        raise InvalidInput(f"a proof of {len(proof)} bytes", hint="an Ed25519 signature has 64")
