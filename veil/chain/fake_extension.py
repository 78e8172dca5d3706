"""The registry's own functions in memory: the rules of Access, Stakes, Disputes, Epochs and Images."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from eth_abi.abi import encode as abi_encode
from eth_hash.auto import keccak

from veil.chain import ports
from veil.chain.extension import COMMITTEE_MAX, HOME_PEERS_MAX, PERIOD_MAX_S
from veil.chain.fake_ledger import NONE, Ledger, State, forbidden
from veil.chain.ports import ChainEvent, NodeStatus
from veil.chain.records import (
    Bond,
    Dispute,
    DisputeStatus,
    EpochParts,
    EpochRecord,
    EpochStatus,
    Owner,
    Right,
    StakeTerms,
    role_address,
    role_id,
)
from veil.errors import Conflict, InvalidInput, LimitExceeded, NotFound
from veil.types import Address, Digest, Epoch, ObjectId, PeerId, Shard
from veil.wire.merkle import is_in
from veil.wire.objects import KINDS

NAMESPACE = KINDS["Namespace"]
NOBODY = Address("0x" + "0" * 40)


class FakeExtension:
    """Implements :class:`veil.chain.extension.Extension`."""

    ledger: Ledger
    operator: Address

    def _other(self, change: Callable[[State], str]) -> None:
        """One write whose event the projection does not need: ``change`` gives back its name."""

        def with_event(state: State) -> list[ChainEvent]:
            return [state.other(change(state))]

        self.ledger.write(with_event)

    # namespaces

    def _owner(self, state: State, namespace: bytes) -> Address:
        record = state.live_object(NAMESPACE, namespace + bytes(16))
        if self.ledger.acl and not state.owns(record.owner, self.operator):
            raise forbidden(f"{self.operator} does not own the namespace {namespace.hex()}")
        return record.owner

    async def set_access(self, namespace: bytes, account: Address, rights: Right) -> None:
        def change(state: State) -> list[ChainEvent]:
            state.rights[namespace, self._owner(state, namespace), account] = rights
            return [state.emit(lambda rv: ports.AccessChanged(rv=rv, namespace=namespace, account=account, rights=int(rights)))]

        self.ledger.write(change)

    async def rights_of(self, namespace: bytes, account: Address) -> Right:
        return self.ledger.read().rights_of(namespace, account)

    async def set_namespace_owner(self, namespace: bytes, owner: Address) -> None:
        if owner == NOBODY:
            raise InvalidInput("owner is zero")
        self._hand(namespace, owner, b"")

    async def set_namespace_owner_role(self, namespace: bytes, role: bytes) -> None:
        if not any(role):
            raise InvalidInput("role is zero")
        self._hand(namespace, role_address(role), role)

    def _hand(self, namespace: bytes, owner: Address, role: bytes) -> None:
        def change(state: State) -> list[ChainEvent]:
            self._owner(state, namespace)
            key = (NAMESPACE, namespace + bytes(16))
            state.objects[key] = replace(state.objects[key], owner=owner)
            if role:
                state.owner_roles[owner] = role
            object_id = ObjectId(namespace + bytes(16))
            return [state.emit(lambda rv: ports.NamespaceOwnerChanged(rv=rv, object_id=object_id, owner=owner))]

        self.ledger.write(change)

    async def namespace_owner(self, namespace: bytes) -> Owner:
        state = self.ledger.read()
        record = state.objects.get((NAMESPACE, namespace + bytes(16)))
        if record is None or not record.live:
            return Owner(NOBODY)
        return Owner(record.owner, state.owner_roles.get(record.owner, b""))

    async def set_home_peers(self, namespace: bytes, peers: Sequence[PeerId]) -> None:
        if len(peers) > HOME_PEERS_MAX:
            raise LimitExceeded(f"{len(peers)} peers, HOME_PEERS_MAX is {HOME_PEERS_MAX}")

        def change(state: State) -> list[ChainEvent]:
            self._owner(state, namespace)
            for peer in peers:
                state.node(peer)
            state.home_peers[namespace] = Digest(bytes(keccak(abi_encode(["bytes32[]"], [list(peers)]))))
            return [state.emit(lambda rv: ports.HomePeersChanged(rv=rv, namespace=namespace, peers=tuple(peers)))]

        self.ledger.write(change)

    async def home_peers_digest(self, namespace: bytes) -> Digest:
        return self.ledger.read().home_peers.get(namespace, NONE)

    async def set_decision_limit(self, namespace: bytes, per_epoch: int) -> None:
        def change(state: State) -> list[ChainEvent]:
            self._role(state, "POLICY_ADMIN")
            state.decision_limits[namespace] = per_epoch
            return [state.emit(lambda rv: ports.DecisionLimitChanged(rv=rv, namespace=namespace, per_epoch=per_epoch))]

        self.ledger.write(change)

    async def decision_limit(self, namespace: bytes) -> int:
        limits = self.ledger.read().decision_limits
        return limits.get(namespace, 0) or limits.get(bytes(16), 0)

    async def set_restricted(self, restricted: bool) -> None:
        def change(state: State) -> str:
            self._role(state, "POLICY_ADMIN")
            state.restricted = restricted
            return "NamespacesRestricted"

        self._other(change)

    async def is_restricted(self) -> bool:
        return self.ledger.read().restricted

    # nodes and stakes

    async def set_node_labels(self, peer: PeerId, labels: Digest) -> None:
        def change(state: State) -> list[ChainEvent]:
            if self.operator != state.node(peer).operator and not state.has_role("NODE_ADMIN", self.operator):
                raise forbidden(f"{self.operator} does not operate node {peer.hex()}")
            state.labels[peer] = labels
            by = self.operator
            return [state.emit(lambda rv: ports.NodeLabelsChanged(rv=rv, peer=peer, labels=labels, by=by))]

        self.ledger.write(change)

    async def node_labels(self, peer: PeerId) -> Digest:
        return self.ledger.read().labels.get(peer, NONE)

    async def stake(self, peer: PeerId, amount_wei: int) -> None:
        def change(state: State) -> str:
            if state.node(peer).status is NodeStatus.LEAVING:
                raise Conflict(f"node {peer.hex()} is Leaving")
            if not amount_wei:
                raise InvalidInput("value is zero")
            bond = state.bond(peer)
            state.bonds[peer] = replace(bond, amount_wei=bond.amount_wei + amount_wei)
            return "NodeStaked"

        self._other(change)

    async def slash(self, peer: PeerId, amount_wei: int, reason: Digest) -> None:
        if not amount_wei:
            raise InvalidInput("amount is zero")

        def change(state: State) -> list[ChainEvent]:
            self._role(state, "ARBITER")
            return _slash(state, peer, amount_wei)

        self.ledger.write(change)

    async def pay_pool(self, to: Address, amount_wei: int) -> None:
        def change(state: State) -> str:
            self._role(state, "DEFAULT_ADMIN_ROLE")
            if amount_wei > state.pool_wei:
                raise LimitExceeded(f"{amount_wei} wei of a pool of {state.pool_wei}")
            state.pool_wei -= amount_wei
            state.credit(to, amount_wei)
            return "PoolPaid"

        self._other(change)

    async def withdraw(self, to: Address) -> None:
        def change(state: State) -> str:
            if not state.credits.pop(self.operator, 0):
                raise NotFound(f"{self.operator} is credited with nothing")
            return "Withdrawn"

        self._other(change)

    async def set_stake_terms(self, terms: StakeTerms) -> None:
        if max(terms.unbond_period_s, terms.resolve_period_s) > PERIOD_MAX_S:
            raise LimitExceeded(f"a period over PERIOD_MAX_S, {PERIOD_MAX_S}")

        def change(state: State) -> str:
            self._role(state, "POLICY_ADMIN")
            state.terms = terms
            return "StakeTermsChanged"

        self._other(change)

    async def stake_terms(self) -> StakeTerms:
        return self.ledger.read().terms

    async def stake_of(self, peer: PeerId) -> Bond:
        return self.ledger.read().bond(peer)

    async def credit_of(self, account: Address) -> int:
        return self.ledger.read().credits.get(account, 0)

    async def slashed_pool(self) -> int:
        return self.ledger.read().pool_wei

    # disputes

    async def dispute_placement(
        self,
        shard: Shard,
        sequence: int,
        leaf: Digest,
        proof: Sequence[Digest],
        *,
        accused: PeerId,
        evidence: Digest,
        bond_wei: int,
    ) -> Digest:
        root = self.ledger.read().roots.get((shard, sequence))
        if root is None or not is_in(leaf, proof, root):
            raise NotFound(f"leaf {leaf.hex()} is not in append {sequence} of shard {shard}")
        subject = keccak(abi_encode(["uint8", "uint64", "bytes32"], [shard, sequence, leaf]))
        return self._dispute(subject, accused, evidence, bond_wei)

    async def dispute_append(self, shard: Shard, sequence: int, *, accused: PeerId, evidence: Digest, bond_wei: int) -> Digest:
        if (shard, sequence) not in self.ledger.read().roots:
            raise NotFound(f"shard {shard} has no append {sequence}")
        return self._dispute(keccak(abi_encode(["uint8", "uint64"], [shard, sequence])), accused, evidence, bond_wei)

    async def dispute_deployment(self, assignment: Digest, *, accused: PeerId, evidence: Digest, bond_wei: int) -> Digest:
        if assignment not in self.ledger.read().anchored:
            raise NotFound(f"assignment {assignment.hex()} is not anchored")
        return self._dispute(assignment, accused, evidence, bond_wei)

    def _dispute(self, subject: bytes, accused: PeerId, evidence: Digest, bond_wei: int) -> Digest:
        if not any(evidence):
            raise InvalidInput("evidence is zero")
        key = Digest(bytes(keccak(subject + accused)))

        def change(state: State) -> list[ChainEvent]:
            state.node(accused)
            if bond_wei < state.terms.dispute_bond_wei:
                raise InvalidInput(f"a bond of {bond_wei} wei, {state.terms.dispute_bond_wei} are needed")
            known = state.disputes.get(key)
            if known is not None and known.status is not DisputeStatus.LAPSED:
                raise Conflict(f"dispute {key.hex()} is {known.status}")
            deadline = self.ledger.next_timestamp_s + state.terms.resolve_period_s
            state.disputes[key] = Dispute(accused, self.operator, deadline, DisputeStatus.OPEN, bond_wei)
            state.count_dispute(accused, 1)
            return [state.emit(lambda rv: ports.DisputeOpened(rv=rv, dispute=key, accused=accused, by=self.operator))]

        self.ledger.write(change)
        return key

    async def resolve_dispute(self, dispute: Digest, *, upheld: bool, slash_wei: int, reason: Digest) -> None:
        def change(state: State) -> list[ChainEvent]:
            self._role(state, "ARBITER")
            event, closed = _close(state, dispute, DisputeStatus.UPHELD if upheld else DisputeStatus.REJECTED)
            slashed = min(slash_wei, state.bond(closed.accused).amount_wei) if upheld else 0
            return [event, *(_slash(state, closed.accused, slashed) if slashed else [])]

        self.ledger.write(change)

    async def lapse_dispute(self, dispute: Digest) -> None:
        def change(state: State) -> list[ChainEvent]:
            event, closed = _close(state, dispute, DisputeStatus.LAPSED)
            if self.ledger.next_timestamp_s <= closed.deadline_s:
                raise Conflict(f"dispute {dispute.hex()} may be decided until {closed.deadline_s}")
            return [event]

        self.ledger.write(change)

    async def get_dispute(self, dispute: Digest) -> Dispute:
        return self.ledger.read().disputes.get(dispute) or Dispute(PeerId(NONE), NOBODY, 0, DisputeStatus.NONE, 0)

    # key epochs

    async def publish_epoch(self, epoch: Epoch, digest: Digest, parts: EpochParts) -> None:
        if not all(map(any, (digest, parts.public_key, parts.evaluation_keys, parts.circuits, parts.committee))):
            raise InvalidInput("a digest is zero")
        if parts.size > COMMITTEE_MAX:
            raise LimitExceeded(f"{parts.size} members, COMMITTEE_MAX is {COMMITTEE_MAX}")
        if not 0 < parts.threshold <= parts.size:
            raise InvalidInput(f"threshold {parts.threshold} of {parts.size}")

        def change(state: State) -> list[ChainEvent]:
            self._role(state, "KEY_ADMIN")
            if epoch <= max(state.epochs, default=0):
                raise Conflict(f"epoch {epoch} is not over the last one, {max(state.epochs, default=0)}")
            state.epochs[epoch] = EpochRecord(EpochStatus.PREPARED, digest, parts)
            _activate_oldest(state)
            return [state.emit(lambda rv: ports.EpochPublished(rv=rv, epoch=epoch, digest=digest))]

        self.ledger.write(change)

    async def activate_epoch(self, epoch: Epoch) -> None:
        def change(state: State) -> list[ChainEvent]:
            self._role(state, "KEY_ADMIN")
            _require_epoch(state, epoch, EpochStatus.PREPARED)
            for number in [number for number in state.epochs if number < epoch]:
                _retire(state, number)
            _activate_oldest(state)
            return [state.emit(lambda rv: ports.EpochActivated(rv=rv, epoch=epoch))]

        self.ledger.write(change)

    async def retire_epoch(self, epoch: Epoch) -> None:
        def change(state: State) -> list[ChainEvent]:
            self._role(state, "KEY_ADMIN")
            _require_epoch(state, epoch, EpochStatus.PREPARED, EpochStatus.ACTIVE)
            _retire(state, epoch)
            _activate_oldest(state)
            return [state.emit(lambda rv: ports.EpochRetired(rv=rv, epoch=epoch))]

        self.ledger.write(change)

    async def get_epoch(self, epoch: Epoch) -> EpochRecord:
        return self.ledger.read().epochs.get(epoch, EpochRecord(EpochStatus.NONE, NONE, None))

    async def active_epoch(self) -> Epoch:
        epochs = self.ledger.read().epochs
        return Epoch(next((number for number, record in epochs.items() if record.status is EpochStatus.ACTIVE), 0))

    # images

    async def set_image_root(self, root: Digest, images: Digest) -> None:
        def change(state: State) -> list[ChainEvent]:
            self._role(state, "POLICY_ADMIN")
            state.image_root = root
            return [state.emit(lambda rv: ports.ImageRootChanged(rv=rv, root=root, images=images))]

        self.ledger.write(change)

    async def is_image_allowed(self, manifest: Digest, proof: Sequence[Digest]) -> bool:
        root = self.ledger.read().image_root
        return not any(root) or is_in(Digest(bytes(keccak(keccak(manifest)))), proof, root)

    async def commit_image(self, name: Digest, manifest: Digest) -> None:
        if not any(name):
            raise InvalidInput("name is zero")

        def change(state: State) -> list[ChainEvent]:
            self._role(state, "POLICY_ADMIN")
            state.images[name] = manifest
            return [state.emit(lambda rv: ports.ImageCommitted(rv=rv, name=name, manifest=manifest))]

        self.ledger.write(change)

    async def image_manifest(self, name: Digest) -> Digest:
        return self.ledger.read().images.get(name, NONE)

    # roles and pause

    async def grant_role(self, role: str, account: Address) -> None:
        self._change_role(role, account, held=True)

    async def revoke_role(self, role: str, account: Address) -> None:
        self._change_role(role, account, held=False)

    def _change_role(self, role: str, account: Address, *, held: bool) -> None:
        """Nothing is told of what was so before."""

        def change(state: State) -> list[ChainEvent]:
            self._role(state, state.role_admins.get(role, "DEFAULT_ADMIN_ROLE"))
            if state.has_role(role, account) == held:
                return []
            (state.roles.add if held else state.roles.discard)((role, account))
            return [state.emit(lambda rv: ports.RoleChanged(rv=rv, role=role_id(role), account=account, held=held))]

        self.ledger.write(change, while_paused=True)

    async def set_role_admin(self, role: str, admin_role: str) -> None:
        def change(state: State) -> list[ChainEvent]:
            self._role(state, "DEFAULT_ADMIN_ROLE")
            state.role_admins[role] = admin_role
            return [state.other("RoleAdminSet")]

        self.ledger.write(change, while_paused=True)

    async def has_role(self, role: str, account: Address) -> bool:
        return self.ledger.read().has_role(role, account)

    async def set_paused(self, paused: bool) -> None:
        def change(state: State) -> list[ChainEvent]:
            self._role(state, "GUARDIAN" if paused else "DEFAULT_ADMIN_ROLE")
            self.ledger.paused = paused
            return [state.other("PauseChanged")]

        self.ledger.write(change, while_paused=True)

    def _role(self, state: State, role: str) -> None:
        if not state.has_role(role, self.operator):
            raise forbidden(f"{self.operator} does not hold the role {role}")


def _slash(state: State, peer: PeerId, amount_wei: int) -> list[ChainEvent]:
    record, bond = state.node(peer), state.bond(peer)
    taken = min(amount_wei, bond.amount_wei)
    state.bonds[peer] = replace(bond, amount_wei=bond.amount_wei - taken)
    state.pool_wei += taken
    events = [state.other("NodeSlashed")]
    if record.status is NodeStatus.ACTIVE and bond.amount_wei - taken < state.terms.min_stake_wei:
        events += state.set_status(peer, record, NodeStatus.CORDONED, now_s=0)
    return events


def _close(state: State, dispute: Digest, status: DisputeStatus) -> tuple[ChainEvent, Dispute]:
    found = state.disputes.get(dispute)
    if found is None:
        raise NotFound(f"there is no dispute {dispute.hex()}")
    if found.status is not DisputeStatus.OPEN:
        raise Conflict(f"dispute {dispute.hex()} is {found.status}")
    state.disputes[dispute] = replace(found, status=status)
    state.count_dispute(found.accused, -1)
    if status is DisputeStatus.REJECTED:
        state.pool_wei += found.bond_wei
    else:
        state.credit(found.by, found.bond_wei)
    accused = found.accused
    return state.emit(lambda rv: ports.DisputeClosed(rv=rv, dispute=dispute, accused=accused, status=status)), found


def _require_epoch(state: State, epoch: int, *wanted: EpochStatus) -> None:
    found = state.epochs.get(epoch)
    if found is None:
        raise NotFound(f"epoch {epoch} was never published")
    if found.status not in wanted:
        raise Conflict(f"epoch {epoch} is {found.status}")


def _retire(state: State, epoch: int) -> None:
    state.epochs[epoch] = replace(state.epochs[epoch], status=EpochStatus.RETIRED)


def _activate_oldest(state: State) -> None:
    """The oldest that is not retired is the active one."""
    live = [number for number, record in sorted(state.epochs.items()) if record.status is not EpochStatus.RETIRED]
    if live:
        state.epochs[live[0]] = replace(state.epochs[live[0]], status=EpochStatus.ACTIVE)
