"""The Chain port over a real registry: one account's writes through its sender, every event through the informer."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from veil.chain import logs, ports
from veil.chain.binding import Binding, by_signer, mark_down_message, signer_of
from veil.chain.client_extension import ExtensionClient
from veil.chain.endpoints import Endpoints
from veil.chain.informer import POLL_S, Informer
from veil.chain.logs import STATUSES, RawLog
from veil.chain.ports import (
    ENVELOPE_MAX_BYTES,
    INFO_MAX_BYTES,
    POLICY_MAX_BYTES,
    Block,
    BlockEvents,
    Finalized,
    Head,
    NodeStatus,
    Rollback,
)
from veil.chain.provider import connect
from veil.chain.sender import Sender, SentReceipt
from veil.chain.signer import Signer
from veil.errors import ChainUnavailable, ConfigInvalid, HeadMismatch, LimitExceeded
from veil.identity import cluster_id
from veil.types import Address, Clock, ClusterId, Digest, Generation, ObjectId, PeerId, Shard


class RegistryChain(ExtensionClient):
    """Implements :class:`veil.chain.ports.Registry`.

    ``rpc``: one endpoint or several of the same chain. ``deploy_block``: the registry's first block, where reading starts.
    """

    cluster: ClusterId

    def __init__(
        self,
        rpc: str | Sequence[str],
        registry: Address,
        signer: Signer,
        *,
        deploy_block: int = 0,
        poll_s: float = POLL_S,
        clock: Clock | None = None,
    ) -> None:
        self.operator = signer.address
        self.registry = registry
        self.deploy_block = deploy_block
        self._signer = signer
        self.endpoints = Endpoints([rpc] if isinstance(rpc, str) else rpc, registry, clock=clock)
        self._w3 = connect(self.endpoints)
        self._binding = Binding(self._w3, registry)
        self._sender = Sender(self._w3, signer, clock=clock)
        self._informer = Informer(self.endpoints, registry, deploy_block=deploy_block, poll_s=poll_s)
        self._chain_id = 0

    async def start(self) -> None:
        """Look whether the chain answers and the registry is there. Raises ChainUnavailable, ConfigInvalid."""
        await self.endpoints.start()
        chain_id, code = await self.endpoints.current().batch([("eth_chainId", []), ("eth_getCode", [self.registry, "latest"])])
        self._chain_id = int(chain_id.value(str), 16)
        if code.value(str) == "0x":
            raise ConfigInvalid(
                f"there is no contract at {self.registry} on chain {self._chain_id}",
                hint="check VEIL_CONTRACT_ADDRESS and the RPC endpoint, or deploy with `veil cluster deploy`",
            )
        self.cluster = cluster_id(self._chain_id, self.registry)

    async def close(self) -> None:
        await self.endpoints.close()
        await self._w3.provider.disconnect()

    @property
    def sender(self) -> Sender:
        """For transactions to other contracts by the same account."""
        return self._sender

    def encode(self, function: str, *args: Any) -> bytes:
        """The calldata of one of the registry's functions, for whoever calls it instead of this account."""
        return self._binding.encode(function, *args)

    async def read(self, function: str, *args: Any) -> Any:
        """The value of one of the registry's views."""
        return await self._binding.read(function, *args)

    async def _send(self, function: str, *args: Any, value_wei: int = 0) -> SentReceipt:
        return await self._sender.send(self.registry, self._binding.encode(function, *args), value_wei=value_wei)

    # objects

    async def apply_object(
        self, kind: int, object_id: ObjectId, expected: Generation, envelope: bytes, *, finalizers: int = 0
    ) -> Generation:
        _limit("envelope", envelope, ENVELOPE_MAX_BYTES, "ENVELOPE_MAX_BYTES")
        receipt = await self._send("applyObject", kind, object_id, expected, envelope, finalizers)
        for event in _events(receipt):
            if isinstance(event, ports.ObjectApplied) and event.object_id == object_id:
                return event.generation
        raise HeadMismatch(f"the receipt of an apply of {object_id.hex()} has no event of it", hint="ask another RPC endpoint")

    async def delete_object(self, kind: int, object_id: ObjectId, expected: Generation) -> None:
        await self._send("deleteObject", kind, object_id, expected)

    async def remove_finalizer(self, kind: int, object_id: ObjectId, mask: int) -> None:
        await self._send("removeFinalizer", kind, object_id, mask)

    # placement log

    async def append_placements(self, shard: Shard, sequence: int, root: Digest, count: int, data: Digest) -> SentReceipt:
        return await self._send("appendPlacements", shard, sequence, root, count, data)

    async def placement_sequence(self, shard: Shard) -> int:
        return int(await self._binding.read("placementSequence", shard))

    async def verify_placement(self, shard: Shard, sequence: int, leaf: Digest, proof: Sequence[Digest]) -> bool:
        return bool(await self._binding.read("verifyPlacement", shard, sequence, leaf, list(proof)))

    async def anchor_deployment(self, assignment: Digest) -> bool:
        await self._send("anchorDeployment", assignment)
        return True

    # nodes

    async def register_node(self, peer: PeerId, operator: Address) -> None:
        await self._send("registerNode", peer, operator)

    async def prove_node(self, peer: PeerId, proof: bytes) -> None:
        await self._send("proveNode", peer, proof)

    async def register_node_with_proof(self, peer: PeerId, operator: Address, proof: bytes) -> None:
        await self._send("registerNodeWithProof", peer, operator, proof)

    async def approve_node(self, peer: PeerId) -> None:
        await self._send("approveNode", peer)

    async def remove_node(self, peer: PeerId) -> None:
        await self._send("removeNode", peer)

    async def publish_node_info(self, peer: PeerId, info: bytes) -> None:
        _limit("node info", info, INFO_MAX_BYTES, "INFO_MAX_BYTES")
        await self._send("publishNodeInfo", peer, info)

    async def set_node_status(self, peer: PeerId, status: NodeStatus) -> None:
        await self._send("setNodeStatus", peer, STATUSES.index(status))

    async def sign_mark_down(self, peer: PeerId, incarnation: int) -> bytes:
        return await self._signer.sign_typed(self._accusation(peer, incarnation))

    def mark_down_signer(self, peer: PeerId, incarnation: int, signature: bytes) -> Address | None:
        return signer_of(self._accusation(peer, incarnation), signature)

    async def down_floor(self, peer: PeerId) -> int:
        return int((await self._binding.read("getNode", peer))[-1])

    async def down_signers(self) -> int:
        return int(await self._binding.read("downSigners"))

    async def mark_down(self, peer: PeerId, incarnation: int, signatures: Sequence[bytes]) -> None:
        ordered = by_signer(self._accusation(peer, incarnation), signatures)
        await self._send("markDown", peer, incarnation, ordered)

    async def mark_up(self, peer: PeerId, incarnation: int) -> None:
        await self._send("markUp", peer, incarnation)

    def _accusation(self, peer: PeerId, incarnation: int) -> dict[str, Any]:
        if not self._chain_id:
            raise ChainUnavailable("the chain client is not started", hint="call start() first")
        return mark_down_message(self._chain_id, self.registry, peer, incarnation)

    # policy

    async def set_policy(self, policy: bytes) -> None:
        _limit("policy", policy, POLICY_MAX_BYTES, "POLICY_MAX_BYTES")
        await self._send("setClusterPolicy", policy)

    async def get_policy(self) -> bytes:
        return bytes(await self._binding.read("getClusterPolicy"))

    async def set_down_signers(self, count: int) -> None:
        await self._send("setDownSigners", count)

    # reading

    async def head(self) -> Head:
        rv, accumulator = await self._binding.read("head")
        return Head(int(rv), bytes(accumulator))

    def follow(
        self, *, from_block: int, from_head: Head, known: Sequence[Block] = ()
    ) -> AsyncIterator[BlockEvents | Rollback | Finalized]:
        return self._informer.follow(from_block=from_block, from_head=from_head, known=known)


def _limit(what: str, value: bytes, limit_bytes: int, name: str) -> None:
    if len(value) > limit_bytes:
        raise LimitExceeded(f"{what} of {len(value)} bytes, {name} is {limit_bytes}", hint="shorten it")


def _events(receipt: SentReceipt) -> list[ports.ChainEvent]:
    raw = [
        RawLog(receipt.block, b"", None, tuple(bytes(topic) for topic in log["topics"]), bytes(log["data"]))
        for log in receipt.logs
    ]
    return [logs.decode(log) for log in raw if logs.in_chain(log)]
