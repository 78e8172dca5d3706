"""Reorgs in the middle of everything, through an endpoint that lies now and then; afterwards the store equals a fresh replay.

What is compared is every table, as a reader without a past makes them from an honest endpoint. Seeds are in the tests' names;
``STORM_SEEDS=7,8,9`` runs others, ``make soak-chain`` thirty.
"""

import asyncio
import importlib.util
import os
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from veil.chain import ranges
from veil.chain.client import RegistryChain
from veil.chain.projector import follow
from veil.chain.reading import read_registry
from veil.chain.rpc import RpcRefused
from veil.errors import Refused, VeilError
from veil.store.projection import Projection
from veil.types import Digest, Generation, PeerId, Shard
from veil.wire.objects import object_id

pytestmark = pytest.mark.chain
SEEDS = [int(text) for text in os.environ.get("STORM_SEEDS", "1,2,3").split(",")]
DEPTH_MAX = 20
MOVES = 25
SPACE = object_id("default", "")
FAULT_SHARE = 0.06
"""Of the answers, how many are wrong, late or missing."""
OF_LOGS = ("drop", "repeat", "change")
KINDS = (*OF_LOGS, "late", "close")
WAITED_S = 0.5
"""For one answer, where answers come too late."""


def _load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"chain_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


liar = _load("liar").liar


def tables(projection: Projection) -> dict[str, Any]:
    """Everything that a reader makes of the events."""
    return {
        "head": projection.head(),
        "objects": sorted(projection.objects(), key=lambda row: (row.kind, row.object_id)),
        "nodes": projection.nodes(),
        "policy": projection.policy(),
        "epochs": projection.epochs(),
        "log": [projection.log(shard) for shard in range(16)],
    }


async def equals_a_replay(projection: Projection, truth: RegistryChain) -> None:
    head = await truth.head()
    await projection.wait_until(lambda: projection.head() == (head.rv, head.accumulator), 30)
    fresh = await read_registry(truth)
    try:
        assert tables(projection) == tables(fresh)
    finally:
        fresh.close()


@asynccontextmanager
async def projecting(chain: RegistryChain) -> AsyncIterator[Projection]:
    """A projection that is kept up to date as a node does it: what fails is begun again."""
    projection = Projection(None, chain.cluster)

    async def keep() -> None:
        while True:
            with suppress(VeilError):
                await follow(chain, projection)
            await asyncio.sleep(0.01)

    following = asyncio.create_task(keep())
    try:
        yield projection
        assert not following.done(), following
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        projection.close()


class Faults:
    """Now and then: a log dropped, repeated, changed; an answer late; a connection closed."""

    def __init__(self, seed: int, *, kinds: Sequence[str] = KINDS, share: float = FAULT_SHARE, late_s: float = 0.15) -> None:
        self._random = random.Random(seed)
        self._kinds, self._share, self._late_s = kinds, share, late_s
        self.on = True
        self.seen = 0
        self.count: dict[str, int] = {}

    def __call__(self, method: str, _params: list[Any], answer: dict[str, Any]) -> Any:
        self.seen += 1
        has_logs = method == "eth_getLogs" and bool(answer.get("result"))
        kinds = [kind for kind in self._kinds if has_logs or kind not in OF_LOGS]
        if not self.on or not kinds or self._random.random() >= self._share:
            return answer
        kind = self._random.choice(kinds)
        self.count[kind] = self.count.get(kind, 0) + 1
        if kind == "close":
            return None
        if kind == "late":
            return self._late(answer)
        found = list(answer["result"])
        at = self._random.randrange(len(found))
        if kind == "drop":
            del found[at]
        elif kind == "repeat":
            found.insert(at, found[at])
        else:
            data = found[at]["data"]
            found[at] = {**found[at], "data": data[:-2] + f"{int(data[-2:] or '0', 16) ^ 1:02x}" if len(data) > 2 else "0x01"}
        return {**answer, "result": found}

    async def _late(self, answer: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(self._late_s)
        return answer


class Storm:
    """Moves drawn by a seed. A move may be refused (a reorg took away what it builds on); none may leave a trace then."""

    def __init__(self, deployed: Any, seed: int, writers: list[RegistryChain], projection: Projection) -> None:
        self._deployed = deployed
        self._random = random.Random(seed)
        self._writers = writers
        self._projection = projection
        self.made: list[str] = []

    async def move(self) -> None:
        moves = [self.write, self.write, self.write, self.both, self.append, self.reorg, self.reorg, self.mine, self.nodes]
        chosen = self._random.choice([*moves, self.pause, self.out_of_gas, self.delete, self.policy, self.amid, self.gap])
        self.made.append(chosen.__name__)
        with suppress(Refused):
            await chosen()

    def _key(self) -> Any:
        return object_id("default", f"w{self._random.randrange(8)}")

    async def _apply(self, writer: RegistryChain, key: Any) -> None:
        if self._projection.object(1, SPACE) is None:
            with suppress(Refused):
                await writer.apply_object(1, SPACE, Generation(0), b"space")
        row = self._projection.object(2, key)
        expected = row.generation if row else Generation(0)
        await writer.apply_object(2, key, expected, self._random.randbytes(40), finalizers=self._random.randrange(2))

    async def write(self) -> None:
        await self._apply(self._random.choice(self._writers), self._key())

    async def both(self) -> None:
        """Two senders on one key at the same time."""
        calls = [self._apply(writer, self._key()) for writer in self._writers for _ in range(3)]
        for result in await asyncio.gather(*calls, return_exceptions=True):
            assert result is None or isinstance(result, Refused), result

    async def delete(self) -> None:
        key = self._key()
        if row := self._projection.object(2, key):
            await self._writers[0].delete_object(2, key, row.generation)
            await self._writers[0].remove_finalizer(2, key, 1)

    async def append(self) -> None:
        shard, root = Shard(self._random.randrange(16)), Digest(self._random.randbytes(32))
        await self._writers[0].append_placements(shard, await self._writers[0].placement_sequence(shard) + 1, root, 3, root)

    async def nodes(self) -> None:
        peer = PeerId(self._random.randbytes(32))
        await self._writers[0].register_node_with_proof(peer, self._writers[0].operator, self._random.randbytes(64))
        await self._writers[0].approve_node(peer)

    async def policy(self) -> None:
        await self._writers[0].set_policy(self._random.randbytes(50))

    async def reorg(self) -> None:
        await self._deployed.reorg(self._random.randint(1, DEPTH_MAX))

    async def amid(self) -> None:
        """A reorg while transactions are on their way: what it takes back is sent again, or is refused by then."""
        calls = [self._apply(writer, self._key()) for writer in self._writers for _ in range(3)]

        async def reorg() -> None:
            await asyncio.sleep(self._random.uniform(0, 0.1))
            await self._deployed.reorg_amid(self._random.randint(1, DEPTH_MAX))

        for result in await asyncio.gather(reorg(), *calls, return_exceptions=True):
            assert result is None or isinstance(result, Refused), result

    async def gap(self) -> None:
        """A transaction whose nonce comes after one that nobody has used yet."""
        with suppress(RpcRefused):  # one from an earlier gap waits there already
            await transaction_after_a_gap(self._deployed, self._writers[0], self._key())
        await self.write()
        await self.write()

    async def mine(self) -> None:
        await self._deployed.mine(self._random.randint(1, 5))

    async def pause(self) -> None:
        await self._writers[0]._send("pause")
        try:
            with pytest.raises(Refused, match="paused"):
                await self._apply(self._writers[0], object_id("default", "while-paused"))
        finally:
            await self._writers[0]._send("unpause")

    async def out_of_gas(self) -> None:
        call = self._writers[0]._binding.encode("setClusterPolicy", self._random.randbytes(200))
        with pytest.raises(Refused):
            await self._writers[0]._sender.send(self._deployed.registry, call, gas=60_000)


async def transaction_after_a_gap(deployed: Any, chain: RegistryChain, key: Any) -> None:
    """Into the pool, where it waits for the nonce before its own."""
    signer = deployed.signers[0]
    nonce = int(await deployed.rpc.call(str, "eth_getTransactionCount", signer.address, "pending"), 16) + 1
    call = chain._binding.encode("applyObject", 2, key, 0, b"after a gap", 0)
    fees = {"maxFeePerGas": 100 * 10**9, "maxPriorityFeePerGas": 10**9, "gas": 400_000, "type": 2}
    chain_id = int(await deployed.rpc.call(str, "eth_chainId"), 16)
    raw = await signer.sign_transaction(
        {"to": deployed.registry, "value": 0, "data": call, "nonce": nonce, "chainId": chain_id, **fees}
    )
    await deployed.rpc.call(str, "eth_sendRawTransaction", "0x" + raw.hex())


@pytest.mark.parametrize("seed", SEEDS)
async def test_any_moves_with_reorgs_between_them(deployed: Any, seed: int) -> None:
    print(f"seed {seed}")
    await deployed.mine(DEPTH_MAX * MOVES)
    truth, faults = await deployed.client(), Faults(seed)
    async with liar(deployed.chain.rpc_url, faults) as url:
        reader = await deployed.client(rpc_url=url)
        writers = [await deployed.client(), await deployed.client()]
        for writer in writers:
            writer.sender._check_every_s = 0.2
        async with projecting(reader) as projection:
            storm = Storm(deployed, seed, writers, projection)
            for _ in range(MOVES):
                await storm.move()
                if storm._random.random() < 0.3:
                    await asyncio.sleep(storm._random.uniform(0, 0.1))
            faults.on = False
            print(f"seed {seed}: {storm.made}, {faults.count}, head {projection.head()[0]}")
            await equals_a_replay(projection, truth)
        await reader.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_fault_of_the_endpoint_leaves_no_trace(deployed: Any, kind: str) -> None:
    """It comes with every third answer, to a store that is empty and to one that is not. Late is later than is waited for."""
    writer, truth = await deployed.client(), await deployed.client()
    await writer.apply_object(1, SPACE, Generation(0), b"space")
    faults = Faults(1, kinds=[kind], share=0.1 if kind == "late" else 1 / 3, late_s=2 * WAITED_S)
    faults.on = False
    async with liar(deployed.chain.rpc_url, faults) as url:
        reader = await deployed.client(rpc_url=url)
        await reader.endpoints.current().close()  # the next call opens a session with this deadline
        reader.endpoints.current()._deadline = aiohttp.ClientTimeout(total=WAITED_S)
        faults.on = True
        async with projecting(reader) as projection:
            while faults.count.get(kind, 0) < 3:
                await writer.apply_object(2, object_id("default", f"w{faults.seen}"), Generation(0), b"x")
                await equals_a_replay(projection, truth)
        await reader.close()


async def test_a_gap_of_nonces_leaves_no_trace(deployed: Any) -> None:
    """The later transaction is mined once its turn comes, and read like any other. What comes after it has the next nonce."""
    chain = await deployed.client()
    await chain.apply_object(1, SPACE, Generation(0), b"space")
    async with projecting(chain) as projection:
        await transaction_after_a_gap(deployed, chain, object_id("default", "late"))
        await equals_a_replay(projection, chain)
        assert projection.object(2, object_id("default", "late")) is None
        await chain.apply_object(2, object_id("default", "first"), Generation(0), b"x")
        await projection.wait_until(lambda: projection.object(2, object_id("default", "late")) is not None, 20)
        await chain.apply_object(2, object_id("default", "last"), Generation(0), b"x")
        await equals_a_replay(projection, chain)


async def test_a_transaction_that_is_taken_back_before_its_receipt_is_read(deployed: Any) -> None:
    """Its sender has not heard that it was mined, and the pool does not have it any more: it is sent again."""
    hidden, key = [True], object_id("default", "twice")

    def hide(method: str, _params: list[Any], answer: dict[str, Any]) -> dict[str, Any]:
        return {**answer, "result": None} if hidden[0] and method == "eth_getTransactionReceipt" else answer

    chain = await deployed.client()
    await chain.apply_object(1, SPACE, Generation(0), b"space")
    async with liar(deployed.chain.rpc_url, hide) as url, projecting(chain) as projection:
        writer = await deployed.client(rpc_url=url)
        writer.sender._check_every_s = writer.sender._replace_after_s = 1e9
        writing = asyncio.create_task(writer.apply_object(2, key, Generation(0), b"x"))
        await projection.wait_until(lambda: projection.object(2, key) is not None, 20)
        await deployed.reorg(1)
        await projection.wait_until(lambda: projection.object(2, key) is None, 20)
        hidden[0] = False
        writer.sender._check_every_s = 0.0
        assert await asyncio.wait_for(writing, 30) == 1
        await equals_a_replay(projection, chain)
        assert projection.object(2, key) is not None
        await writer.close()


async def test_every_depth_from_one_to_twenty(deployed: Any) -> None:
    """Each depth with the registry's events in every block that it takes back, and new ones on the other branch."""
    chain = await deployed.client()
    await chain.apply_object(1, SPACE, Generation(0), b"space")
    await deployed.mine(2)
    taken_back = 0
    async with projecting(chain) as projection:
        for depth in range(1, DEPTH_MAX + 1):
            for index in range(depth):
                await chain.apply_object(2, object_id("default", f"d{depth}-{index}"), Generation(0), b"taken back")
            await equals_a_replay(projection, chain)
            before = projection.head()[0]
            await deployed.reorg(depth)
            await chain.apply_object(2, object_id("default", f"after-{depth}"), Generation(0), b"stays")
            await equals_a_replay(projection, chain)
            taken_back += before + 1 - projection.head()[0]
            assert projection.object(2, object_id("default", f"after-{depth}")) is not None
    assert taken_back > DEPTH_MAX, "reorgs took events back"


async def test_a_reorg_just_after_a_cold_sync(deployed: Any) -> None:
    """The newest events are old, and no block between them and the tip was seen: there is a fork point all the same."""
    chain = await deployed.client()
    await chain.apply_object(1, SPACE, Generation(0), b"space")
    for blocks in (360, 40):
        await deployed.mine(blocks)
        await chain.sender.send(chain.operator, b"")  # empty blocks would have the same hashes after a reorg
    projection = Projection(None, chain.cluster)
    following = asyncio.create_task(follow(chain, projection))
    newest = int(await deployed.rpc.call(str, "eth_blockNumber"), 16)
    await projection.wait_until(lambda: projection.finality("latest") >= newest, 20)
    for depth in (3, 60):
        await deployed.reorg(depth)
        await chain.apply_object(2, object_id("default", f"after-{depth}"), Generation(0), b"x")
        await equals_a_replay(projection, chain)
    assert not following.done()
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    projection.close()


async def test_a_reorg_after_a_range_was_asked_for_ahead(deployed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other branch has the same event in another block: head() is the same, and its block is not."""
    monkeypatch.setattr(ranges, "RANGE_FIRST_BLOCKS", 4)
    chain, key, second = await deployed.client(), object_id("default", "moves"), deployed.block + 4
    await chain.apply_object(1, SPACE, Generation(0), b"space")
    await deployed.mine(second - int(await deployed.rpc.call(str, "eth_blockNumber"), 16))
    sent = await chain.sender.send(deployed.registry, chain.encode("applyObject", 2, key, 0, b"x", 0))
    raw = await deployed.rpc.call(str, "eth_getRawTransactionByHash", "0x" + sent.tx_hash.hex())
    await deployed.mine(12)
    asked, released = asyncio.Event(), asyncio.Event()

    async def hold(answer: dict[str, Any]) -> dict[str, Any]:
        asked.set()
        await released.wait()
        return answer

    def twist(method: str, params: list[Any], answer: dict[str, Any]) -> Any:
        return hold(answer) if method == "eth_getLogs" and params[0].get("fromBlock") == hex(second) else answer

    async with liar(deployed.chain.rpc_url, twist) as url:
        reader = await deployed.client(rpc_url=url)
        async with projecting(reader) as projection:
            await asyncio.wait_for(asked.wait(), 10)
            await deployed.rpc.find(object, "anvil_reorg", 13, [[raw, 1]])
            released.set()
            await equals_a_replay(projection, chain)
            row = projection.object(2, key)
            assert row is not None
            assert row.block == sent.block + 1
        await reader.close()


async def test_a_store_from_before_the_reorg(deployed: Any) -> None:
    """The node was down while the chain replaced twenty blocks: it goes on from its cursor and comes to the same."""
    chain = await deployed.client()
    await chain.apply_object(1, SPACE, Generation(0), b"space")
    await deployed.mine(2)
    for index in range(DEPTH_MAX):
        await chain.apply_object(2, object_id("default", f"w{index}"), Generation(0), b"taken back")
    projection = Projection(None, chain.cluster)

    async def run_until_synced() -> None:
        head = await chain.head()
        following = asyncio.create_task(follow(chain, projection))
        await projection.wait_until(lambda: projection.head() == (head.rv, head.accumulator), 20)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    await run_until_synced()
    await deployed.reorg(DEPTH_MAX)
    await chain.apply_object(2, object_id("default", "another"), Generation(0), b"stays")
    await run_until_synced()
    await equals_a_replay(projection, chain)
    projection.close()
