"""What the registry costs: ``python -m bench.chain [--json | --markdown]``. A fresh anvil, a fresh registry, real transactions.

Gas is what receipts say. Every operation is measured twice, beside 10 and beside 1,000 nodes and objects: an operation that
walks over anything would show. A cold sync is a new client with an empty store.db that follows until it has the registry's
head, with ten objects in a block; what a plain ``eth_getLogs`` of the same
range takes, decoded as JSON and nothing else, is measured in the same run. The watch latency is from the answer to
``eth_sendRawTransaction`` to the commit of the projection, at moments that no poll knows of, on a registry that is still
small: anvil makes the state's root anew with each block, which takes it longer than anything here once there is much.
"""

import argparse
import asyncio
import hashlib
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from bench import chain_steps
from veil.chain.client import RegistryChain
from veil.chain.deploy import deploy_registry
from veil.chain.devchain import DevChain
from veil.chain.ports import ENVELOPE_MAX_BYTES
from veil.chain.projector import follow
from veil.chain.rpc import LogEntry, Rpc
from veil.chain.sender import SentReceipt
from veil.chain.signer import LocalSigner
from veil.identity import Identity
from veil.store.projection import Projection
from veil.types import Address
from veil.wire.codec import encode
from veil.wire.nodes import NodeInfo, prove_possession
from veil.wire.objects import object_id
from veil.wire.signed import sign

FEW, MANY = 10, 1_000
SYNCED = 10_000
WATCHED = 200
SYNCS = 5
BATCH = 256
"""Leaves of one append."""
IN_BLOCK = 10
"""Transactions in a block while the registry is filled: few enough that the base fee does not rise."""
SEED = 2026
WORKLOAD, NAMESPACE = 2, 1
SPACE = object_id("bench", "")
PROMISES = {
    "apply_create": 105_000,
    "apply_update": 70_000,
    "register": 70_000,
    "append": 70_000,
    "anchor_batch_256_each": 300,
    "cold_sync_10000_s": 1.0,
    "watch_p50_ms": 50.0,
}

Gas = dict[str, int]


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One run. ``gas``: beside MANY nodes and objects; ``gas_growth``: the worst operation's there over that beside FEW."""

    gas: dict[str, float]
    gas_growth: float
    gas_growth_of: str
    cold_sync_10000_s: float
    plain_get_logs_s: float
    watch_p50_ms: float
    watch_p99_ms: float
    get_logs_p50_ms: float
    load_average: float


class Bench:
    """One registry, its administrator (who is also an operator), and transactions in bulk."""

    def __init__(self, rpc_url: str, signer: LocalSigner, registry: Address, block: int) -> None:
        self.url, self.signer, self.registry, self.block = rpc_url, signer, registry, block
        self.rpc = Rpc(rpc_url)
        self.chain = RegistryChain(rpc_url, registry, signer, deploy_block=block)
        self.filled = 0

    async def gas(self, function: str, *args: Any) -> int:
        return (await self._send(function, *args)).gas_used

    async def _send(self, function: str, *args: Any, value_wei: int = 0) -> SentReceipt:
        return await self.chain._send(function, *args, value_wei=value_wei)

    async def bulk(self, calls: Sequence[tuple[str, tuple[Any, ...]]]) -> None:
        """Many calls, one transaction each, IN_BLOCK of them in a block, without waiting for receipts one by one."""
        chain_id, nonce = int(await self.rpc.call(str, "eth_chainId"), 16), await self._nonce()
        await self.rpc.find(object, "evm_setAutomine", False)
        for first in range(0, len(calls), IN_BLOCK):
            block = calls[first : first + IN_BLOCK]
            raws = [await self._signed(chain_id, nonce + i, function, args) for i, (function, args) in enumerate(block)]
            for answer in await self.rpc.batch([("eth_sendRawTransaction", ["0x" + raw.hex()]) for raw in raws]):
                answer.value(str)
            await self.rpc.find(object, "anvil_mine", "0x1")
            nonce += len(block)
        await self.rpc.find(object, "evm_setAutomine", True)
        assert await self._nonce() == nonce

    async def _nonce(self) -> int:
        return int(await self.rpc.call(str, "eth_getTransactionCount", self.signer.address, "latest"), 16)

    async def _signed(self, chain_id: int, nonce: int, function: str, args: tuple[Any, ...]) -> bytes:
        fees = {"maxFeePerGas": 100 * 10**9, "maxPriorityFeePerGas": 1, "gas": 400_000}
        call = {"to": self.registry, "value": 0, "data": self.chain._binding.encode(function, *args), "type": 2}
        return await self.signer.sign_transaction({**call, **fees, "chainId": chain_id, "nonce": nonce})

    async def fill(self, count: int) -> None:
        """Up to ``count`` nodes and objects."""
        calls: list[tuple[str, tuple[Any, ...]]] = []
        for index in range(self.filled, count):
            node = Identity.generate()
            calls.append(("registerNodeWithProof", (node.peer_id, self.signer.address, self._proof(node))))
            calls.append(("approveNode", (node.peer_id,)))
            calls.append(("applyObject", (WORKLOAD, object_id("bench", f"w{index}"), 0, _envelope(), 0)))
        self.filled = count
        await self.bulk(calls)

    async def objects(self, count: int) -> None:
        """``count`` objects more."""
        await self.bulk([("applyObject", (WORKLOAD, object_id("bench", f"s{i}"), 0, _envelope(), 0)) for i in range(count)])

    def _proof(self, node: Identity) -> bytes:
        return prove_possession(node, self.chain.cluster, self.signer.address)

    def _info(self, node: Identity) -> bytes:
        info = NodeInfo(peer=node.peer_id, sequence=1, name="node", addresses=("/ip4/192.0.2.1/tcp/4001",))
        return encode(sign(node, self.chain.cluster, info))

    async def operations(self, tag: str) -> Gas:
        """The gas of every operation, on fresh things named after ``tag``."""
        made, node, other = object_id("bench", f"made {tag}"), Identity.generate(), Identity.generate()
        peer = node.peer_id
        shard = len(tag) % 16
        steps: list[tuple[str, str, tuple[Any, ...]]] = [
            ("apply_create", "applyObject", (WORKLOAD, made, 0, _envelope(), 0)),
            ("apply_update", "applyObject", (WORKLOAD, made, 1, _envelope(), 0)),
            ("delete", "deleteObject", (WORKLOAD, made, 2)),
            ("register", "registerNode", (peer, self.signer.address)),
            ("prove", "proveNode", (peer, self._proof(node))),
            ("register_with_proof", "registerNodeWithProof", (other.peer_id, self.signer.address, self._proof(other))),
            ("approve", "approveNode", (peer,)),
            ("publish_node_info", "publishNodeInfo", (peer, self._info(node))),
            ("cordon", "setNodeStatus", (peer, 3)),
            ("remove", "removeNode", (other.peer_id,)),
            ("append", "appendPlacements", (shard, 1, _hash(f"one {tag}"), 1, _hash("data"))),
            ("append_256", "appendPlacements", (shard, 2, _hash(f"batch {tag}"), BATCH, _hash("data"))),
            ("anchor", "anchorDeployment", (_hash(f"note {tag}"),)),
            ("set_access", "setAccess", (SPACE[:16], LocalSigner.generate().address, 5)),
        ]
        found = {name: await self.gas(function, *args) for name, function, args in steps}
        about = {"peer": peer, "note": _hash(f"note {tag}"), "space": SPACE[:16], "account": self.signer.address}
        for step in chain_steps.steps(tag, **about):  # type: ignore[arg-type]
            receipt = await self._send(step.function, *step.args, value_wei=step.value_wei)
            found |= {step.name: receipt.gas_used} if step.name else {}
        return found

    async def cold_sync(self, store: Path) -> float:
        """Seconds until an empty projection has the registry's present head."""
        chain = RegistryChain(self.url, self.registry, self.signer, deploy_block=self.block)
        await chain.start()
        head = await chain.head()
        projection = Projection(store, chain.cluster)
        begin_s = time.perf_counter()
        following = asyncio.create_task(follow(chain, projection))
        await projection.wait_until(lambda: projection.head() == (head.rv, head.accumulator), 120)
        taken_s = time.perf_counter() - begin_s
        assert len(projection.objects()) >= SYNCED
        await _end(following)
        projection.close()
        await chain.close()
        return taken_s

    async def plain_get_logs(self) -> float:
        """Seconds of one request for all logs, and of decoding its JSON."""
        begin_s = time.perf_counter()
        await self.rpc.call(list[LogEntry], "eth_getLogs", self._where(self.block))
        return time.perf_counter() - begin_s

    def _where(self, first: int) -> dict[str, str]:
        return {"address": self.registry, "fromBlock": hex(first), "toBlock": "latest"}

    async def watch(self, count: int) -> tuple[list[float], list[float]]:
        """Milliseconds from sent to committed, and those of one eth_getLogs of the newest block beside."""
        projection = Projection(None, self.chain.cluster)
        following = asyncio.create_task(follow(self.chain, projection))
        head = await self.chain.head()
        await projection.wait_until(lambda: projection.head()[0] >= head.rv, 120)
        drawn, latencies_ms, plain_ms = random.Random(SEED), [], []
        chain_id, nonce = int(await self.rpc.call(str, "eth_chainId"), 16), await self._nonce()
        for index in range(count):
            await asyncio.sleep(drawn.uniform(0, 0.1))
            made = object_id("bench", f"watched {index}")
            raw = await self._signed(chain_id, nonce + index, "applyObject", (WORKLOAD, made, 0, _envelope(), 0))
            await self.rpc.call(str, "eth_sendRawTransaction", "0x" + raw.hex())
            begin_s = time.perf_counter()
            await projection.wait_until(lambda key=made: projection.object(WORKLOAD, key) is not None, 10)  # type: ignore[misc]
            latencies_ms.append((time.perf_counter() - begin_s) * 1e3)
            begin_s = time.perf_counter()
            await self.rpc.call(list[LogEntry], "eth_getLogs", {"address": self.registry, "fromBlock": "latest"})
            plain_ms.append((time.perf_counter() - begin_s) * 1e3)
        await _end(following)
        projection.close()
        return latencies_ms, plain_ms


async def _end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _nonzero(size: int) -> bytes:
    """Bytes without zeros, which are the dear ones."""
    return bytes(index % 255 + 1 for index in range(size))


def _envelope() -> bytes:
    return _nonzero(ENVELOPE_MAX_BYTES)


async def with_registry(work: Callable[[Bench], Awaitable[Any]]) -> Any:
    """``work`` on a fresh chain with a registry, a namespace and one Active node."""
    with tempfile.TemporaryDirectory() as directory:
        # Without a clock: a chain that has one takes no evm_setAutomine, and mines in the middle of what bulk() sends.
        chain = DevChain(Path(directory) / "chain", persist=False, block_time_s=0)
        await chain.start()
        try:
            signer = LocalSigner.generate()
            await chain.fund(signer.address, 10**6)
            registry, block = await deploy_registry(chain.rpc_url, signer, signer.address)
            bench = Bench(chain.rpc_url, signer, registry, block)
            await bench.chain.start()
            try:
                await bench.gas("applyObject", NAMESPACE, SPACE, 0, b"bench", 0)
                return await work(bench)
            finally:
                await bench.rpc.close()
                await bench.chain.close()
        finally:
            await chain.stop()


async def gas(bench: Bench) -> tuple[Gas, Gas]:
    """Every operation beside FEW and beside MANY nodes and objects."""
    await bench.fill(FEW)
    few = await bench.operations("few")
    await bench.fill(MANY)
    return few, await bench.operations("many")


async def measure(bench: Bench) -> Figure:
    """Everything, in one run."""
    latencies_ms, plain_ms = await bench.watch(WATCHED)
    few, many = await gas(bench)
    await bench.objects(SYNCED)
    with tempfile.TemporaryDirectory() as directory:
        syncs_s, plain_s = [], []
        for index in range(SYNCS):
            syncs_s.append(await bench.cold_sync(Path(directory) / f"{index}.db"))
            plain_s.append(await bench.plain_get_logs())
    growth, worst = max((many[name] / few[name], name) for name in few)
    shown: dict[str, float] = {name: value for name, value in many.items() if name != "append_256"}
    return Figure(
        gas=shown | {"anchor_batch_256_each": round(many["append_256"] / BATCH, 1)},
        gas_growth=round(growth, 4),
        gas_growth_of=worst,
        cold_sync_10000_s=round(statistics.median(syncs_s), 3),
        plain_get_logs_s=round(statistics.median(plain_s), 3),
        watch_p50_ms=round(statistics.median(latencies_ms), 1),
        watch_p99_ms=round(statistics.quantiles(latencies_ms, n=100)[98], 1),
        get_logs_p50_ms=round(statistics.median(plain_ms), 1),
        load_average=round(os.getloadavg()[0], 2),
    )


def table(figure: Figure) -> str:
    """The run for people: each figure beside what is promised of it."""
    values: dict[str, Any] = {f"gas.{name}": value for name, value in figure.gas.items()}
    values |= {name: value for name, value in msgspec.to_builtins(figure).items() if name != "gas"}
    lines = []
    for name, value in values.items():
        promise = PROMISES.get(name.removeprefix("gas."))
        said = "" if promise is None else f"promised: at most {promise:g}" + ("" if value <= promise else "  MISSED")
        lines.append(f"{name:28} {value!s:>10}   {said}".rstrip())
    return "\n".join(lines)


MEANINGS = {
    "apply_create": f"a new object with an envelope of {ENVELOPE_MAX_BYTES} bytes, none of them zero",
    "apply_update": "the same again, with another generation",
    "delete": "an object without finalizers",
    "register": "`registerNode`: a Pending node without a proof",
    "prove": "`proveNode`",
    "register_with_proof": "`registerNodeWithProof`",
    "approve": "`approveNode`",
    "publish_node_info": "what a node says of itself, with one address",
    "cordon": "`setNodeStatus`",
    "remove": "`removeNode`",
    "append": "`appendPlacements` with one leaf",
    "append_256": f"the same with {BATCH} leaves",
    "anchor": "`anchorDeployment`",
    "set_access": "rights of one account in one namespace",
    **chain_steps.MEANINGS,
}


def page(few: Gas, many: Gas) -> str:
    """docs/reference/gas.md."""
    lines = [
        "# Gas",
        "",
        "What each operation of the registry costs, as receipts say. Generated by `python -m bench.chain --markdown`, which",
        f"measures beside {FEW} and beside {MANY:,} nodes and objects. Bytes that are zero are cheaper than others, so that a",
        "signature makes a difference of some tens.",
        "",
        f"| operation | gas beside {FEW} | gas beside {MANY:,} | what it is |",
        "|---|---|---|---|",
        *(f"| {name} | {few[name]:,} | {many[name]:,} | {MEANINGS[name]} |" for name in few),
        "",
        f"One append of {BATCH} leaves is {many['append_256'] / BATCH:.0f} gas a leaf.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.chain", description="What the registry costs.")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--markdown", action="store_true", help="docs/reference/gas.md, which is of gas alone")
    arguments = parser.parse_args()
    if arguments.markdown:
        print(page(*asyncio.run(with_registry(gas))))
        return
    figure: Figure = asyncio.run(with_registry(measure))
    print(json.dumps(msgspec.to_builtins(figure)) if arguments.json else table(figure))


if __name__ == "__main__":
    main()
