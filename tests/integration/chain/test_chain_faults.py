"""Endpoints that lie, lag or leave; two programs on one key; a paused contract; gas that runs out."""

import asyncio
import importlib.util
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from veil.chain import logs, ranges, rpc
from veil.chain.client import RegistryChain
from veil.chain.disputes import read_disputes
from veil.chain.ports import EMPTY_HEAD, BlockEvents, Finality, Finalized, Head, ObjectApplied, OtherEvent, RoleChanged, Rollback
from veil.chain.rpc import LogEntry
from veil.chain.signer import LocalSigner
from veil.errors import ChainUnavailable, ConfigInvalid, Conflict, Forbidden, HeadMismatch, Refused
from veil.types import Address, Digest, Generation, PeerId
from veil.wire.objects import object_id

pytestmark = pytest.mark.chain
SPACE = object_id("default", "")


def _load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"chain_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


liar = _load("liar").liar


async def fill(chain: RegistryChain, count: int) -> None:
    await chain.apply_object(1, SPACE, Generation(0), b"space")
    for index in range(count):
        await chain.apply_object(2, object_id("default", f"w{index}"), Generation(0), b"%d" % index)


async def collect(chain: RegistryChain, head: Head, *, timeout_s: float = 8) -> list[Any]:
    """The events up to ``head`` but those of roles and pauses, rolled back ones taken out."""
    blocks: list[BlockEvents] = []
    async with asyncio.timeout(timeout_s):
        async for item in chain.follow(from_block=0, from_head=EMPTY_HEAD):
            if isinstance(item, Rollback):
                blocks = [block for block in blocks if block.block.number <= item.to_block]
            elif isinstance(item, BlockEvents):
                blocks.append(item)
                if item.head == head:
                    break
    return [event for block in blocks for event in block.events if not isinstance(event, OtherEvent | RoleChanged)]


def _ours(found: list[Any], twist: Any) -> list[Any]:
    """Lies concern the objects' events, not those of the roles before them."""
    topic = "0x" + logs.topic_of("ObjectApplied").hex()
    objects = [log for log in found if log["topics"][0] == topic]
    return [log for log in found if log not in objects] + twist(objects)


def _drop(found: list[Any]) -> list[Any]:
    return found[:2] + found[3:]


def _drop_last(found: list[Any]) -> list[Any]:
    return found[:-1]


def _repeat(found: list[Any]) -> list[Any]:
    return found[:2] + found[1:]


def _swap(found: list[Any]) -> list[Any]:
    return [found[1], found[0], *found[2:]] if len(found) > 1 else found


def _alter(found: list[Any]) -> list[Any]:
    if not found:
        return found
    data = found[-1]["data"]
    return [*found[:-1], {**found[-1], "data": data[:-64] + "37" + data[-62:]}]


def _renumber_kind(found: list[Any]) -> list[Any]:
    if not found:
        return found
    topics = found[-1]["topics"]
    return [*found[:-1], {**found[-1], "topics": [*topics[:3], topics[3][:-1] + "3"]}]


@pytest.mark.parametrize("twist", [_drop, _drop_last, _repeat, _swap, _alter, _renumber_kind])
async def test_a_lie_about_logs_is_noticed(deployed: Any, twist: Any) -> None:
    await fill(await deployed.client(), 4)

    def lie(method: str, _params: list[Any], answer: Any) -> Any:
        return {**answer, "result": _ours(answer["result"], twist)} if method == "eth_getLogs" else answer

    async with liar(deployed.chain.rpc_url, lie) as url:
        chain = await deployed.client(rpc_url=url)
        with pytest.raises(HeadMismatch):
            await collect(chain, Head(5, b""))
        await chain.close()


async def test_a_hidden_dispute_is_noticed(deployed: Any) -> None:
    chain, accused, note = await deployed.client(), PeerId(b"9" * 32), Digest(b"n" * 32)
    await chain.register_node_with_proof(accused, chain.operator, bytes(64))
    await chain.approve_node(accused)
    await chain.anchor_deployment(note)
    bond_wei = (await chain.stake_terms()).dispute_bond_wei
    dispute = await chain.dispute_deployment(note, accused=accused, evidence=note, bond_wei=bond_wei)
    topic = "0x" + logs.topic_of("DisputeOpened").hex()

    def hide(method: str, _params: list[Any], answer: Any) -> Any:
        if method != "eth_getLogs":
            return answer
        return {**answer, "result": [log for log in answer["result"] if log["topics"][0] != topic]}

    async with liar(deployed.chain.rpc_url, hide) as url:
        hiding = await deployed.client(rpc_url=url)
        with pytest.raises(HeadMismatch):
            await read_disputes(hiding)
        await hiding.close()
    assert await read_disputes(chain) == {dispute: "Open"}


async def test_one_lag_is_forgiven(deployed: Any) -> None:
    """Logs and head() of different servers behind one name may disagree once."""
    chain = await deployed.client()
    await fill(chain, 4)
    left = [2]

    def lag(method: str, _params: list[Any], answer: Any) -> Any:
        if method == "eth_getLogs" and left[0]:
            left[0] -= 1
            return {**answer, "result": answer["result"][:-1]}
        return answer

    async with liar(deployed.chain.rpc_url, lag) as url:
        lagging = await deployed.client(rpc_url=url)
        assert len(await collect(lagging, await chain.head())) == 5
        await lagging.close()


async def test_an_endpoint_that_leaves_is_waited_for(deployed: Any) -> None:
    chain = await deployed.client()
    await fill(chain, 4)
    left = [6]

    def leave(_method: str, _params: list[Any], answer: Any) -> Any:
        left[0] -= 1
        return None if left[0] % 2 == 0 and left[0] > -20 else answer

    async with liar(deployed.chain.rpc_url, leave) as url:
        flaky = RegistryChain(url, deployed.registry, deployed.signers[0], deploy_block=deployed.block, poll_s=0.01)
        assert len(await collect(flaky, await chain.head())) == 5
        await flaky.close()


async def test_ranges_are_halved_until_the_endpoint_takes_them(deployed: Any) -> None:
    chain = await deployed.client()
    await fill(chain, 6)
    sizes: list[int] = []

    def limit(method: str, params: list[Any], answer: Any) -> Any:
        if method != "eth_getLogs" or "blockHash" in params[0]:
            return answer
        size = int(params[0]["toBlock"], 16) - int(params[0]["fromBlock"], 16) + 1
        sizes.append(size)
        refusal = {"jsonrpc": "2.0", "id": answer["id"], "error": {"code": -32005, "message": "query returns too much"}}
        return refusal if size > 3 else answer

    async with liar(deployed.chain.rpc_url, limit) as url:
        limited = await deployed.client(rpc_url=url)
        assert len(await collect(limited, await chain.head())) == 7
        await limited.close()
    assert max(sizes) > 3
    assert min(sizes) <= 3


async def test_ranges_are_asked_for_ahead_and_sized_by_what_is_in_them(deployed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "RANGE_FIRST_BLOCKS", 2)
    monkeypatch.setattr(ranges, "LOGS_WANTED", 4)
    chain = await deployed.client()
    await fill(chain, 14)
    await deployed.mine(600)
    await chain.set_policy(b"last")
    sizes: list[int] = []
    under_way, most = 0, 0

    async def slow(answer: Any) -> Any:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.02)
        under_way -= 1
        return answer

    def measure(method: str, params: list[Any], answer: Any) -> Any:
        if method != "eth_getLogs" or "blockHash" in params[0]:
            return answer
        sizes.append(int(params[0]["toBlock"], 16) - int(params[0]["fromBlock"], 16) + 1)
        return slow(answer)

    async with liar(deployed.chain.rpc_url, measure) as url:
        reader = await deployed.client(rpc_url=url)
        assert len(await collect(reader, await chain.head())) == 16
        await reader.close()
    assert most == 2
    assert max(sizes[:4]) <= 8, "with an event in each block"
    assert max(sizes) > 64, "with none"


async def test_an_endpoint_without_old_states_is_checked_at_the_newest(deployed: Any) -> None:
    chain = await deployed.client()
    await fill(chain, 4)
    latest = int(await deployed.rpc.call(str, "eth_blockNumber"), 16)
    asked: list[str] = []

    def forget(method: str, params: list[Any], answer: Any) -> Any:
        if method == "eth_getBlockByNumber" and params[0] == "latest":
            asked.append(answer["result"]["hash"])
        if method == "eth_call" and isinstance(params[1], dict) and params[1]["blockHash"] not in asked:
            return {"jsonrpc": "2.0", "id": answer["id"], "error": {"code": -32000, "message": "missing trie node"}}
        return answer

    async with liar(deployed.chain.rpc_url, forget) as url:
        pruned = await deployed.client(rpc_url=url)
        stale = pruned.follow(from_block=latest - 1, from_head=Head(4, b"?" * 24))
        assert isinstance(await asyncio.wait_for(anext(stale), 5), Rollback)
        assert len(await collect(pruned, await chain.head())) == 5
        await pruned.close()


async def _with_lost_blocks(deployed: Any, lost: range, body: Any) -> None:
    """A reader that has come to the tip; then the endpoint has none of ``lost`` any more, and 30 blocks and an event come."""
    chain = await deployed.client()
    await fill(chain, 4)
    await deployed.mine(40)
    tip = int(await deployed.rpc.call(str, "eth_blockNumber"), 16)
    hidden: set[str] = set()

    def lose(method: str, params: list[Any], answer: Any) -> Any:
        return {**answer, "result": None} if method == "eth_getBlockByNumber" and params[0] in hidden else answer

    async with liar(deployed.chain.rpc_url, lose) as url, asyncio.timeout(20):
        reader = await deployed.client(rpc_url=url)
        items = reader.follow(from_block=0, from_head=EMPTY_HEAD)
        while (await anext(items)) != Finalized(Finality.LATEST, tip):
            pass
        hidden |= {hex(tip + number) for number in lost}
        await deployed.mine(30)
        await chain.apply_object(2, object_id("default", "after"), Generation(0), b"x")
        await body((item async for item in items if not isinstance(item, Finalized)), hidden, await chain.head())
        await reader.close()


async def test_a_block_that_the_endpoint_lost_is_gone_back_over(deployed: Any) -> None:
    """As anvil does when a block by the clock falls into a reorg: a height below the newest at which there is nothing."""

    async def body(stream: Any, _hidden: set[str], head: Head) -> None:
        found = [await anext(stream)]
        while not (isinstance(found[-1], BlockEvents) and found[-1].head == head):
            found.append(await anext(stream))
        assert [type(item) for item in found[:1]] == [Rollback]
        assert sum(len(item.events) for item in found if isinstance(item, BlockEvents)) == 1, "what was before the gap is kept"

    await _with_lost_blocks(deployed, range(-7, 20), body)


async def test_an_endpoint_that_shows_no_block_at_all_is_waited_for(deployed: Any) -> None:
    """It contradicts nothing, so that nothing is taken back."""

    async def body(stream: Any, hidden: set[str], head: Head) -> None:
        waiting = asyncio.create_task(anext(stream))
        assert await asyncio.wait({waiting}, timeout=1.5) == (set(), {waiting})
        hidden.clear()
        found = [await waiting]
        while not (isinstance(found[-1], BlockEvents) and found[-1].head == head):
            found.append(await anext(stream))
        assert not any(isinstance(item, Rollback) for item in found)

    await _with_lost_blocks(deployed, range(-1000, 1000), body)


async def test_the_hash_chain_can_be_recomputed_from_raw_logs(deployed: Any) -> None:
    chain = await deployed.client()
    first = (await chain.head()).rv
    await fill(chain, 3)
    await chain.set_policy(b"a policy")
    await chain.set_down_signers(2)
    found = await deployed.rpc.call(list[LogEntry], "eth_getLogs", {"address": deployed.registry, "fromBlock": "0x0"})
    head = EMPTY_HEAD
    for log in map(logs.parse, found):
        if logs.in_chain(log):
            assert log.rv == head.rv + 1
            head = logs.fold(head, log)
    assert head.rv == first + 6
    assert head == await chain.head()


async def test_two_senders_on_one_key(deployed: Any) -> None:
    """Whoever loses the race for a nonce takes the next one; nothing is lost and nothing is sent twice."""
    first, second = await deployed.client(), await deployed.client()
    before = (await first.head()).rv
    await first.apply_object(1, SPACE, Generation(0), b"space")
    calls = [
        (first if index % 2 else second).apply_object(2, object_id("default", f"o{index}"), Generation(0), b"x")
        for index in range(20)
    ]
    assert await asyncio.gather(*calls) == [1] * 20
    assert (await first.head()).rv == before + 21


async def test_a_transaction_that_a_reorg_takes_back_leaves_no_gap(deployed: Any) -> None:
    chain = await deployed.client()
    await fill(chain, 3)
    await deployed.reorg(2)
    generation = await chain.apply_object(2, object_id("default", "after"), Generation(0), b"x")
    assert generation == 1


async def test_a_paused_registry_refuses_and_goes_on(deployed: Any) -> None:
    """The pause is an event like any other: a reader that skips it finds no way to head()."""
    chain = await deployed.client()
    await fill(chain, 1)
    await chain._send("pause")
    head = await chain.head()
    with pytest.raises(Refused, match="paused"):
        await chain.apply_object(1, SPACE, Generation(1), b"x")
    assert await chain.head() == head, "nothing was written"
    await chain._send("unpause")
    assert await chain.apply_object(1, SPACE, Generation(1), b"x") == 2
    assert len(await collect(chain, await chain.head())) == 3


async def test_out_of_gas_is_tried_once_with_more(deployed: Any) -> None:
    """The state may change between estimate and block so that the write becomes dearer."""

    def belittle(method: str, _params: list[Any], answer: Any) -> Any:
        return {**answer, "result": hex(50_000)} if method == "eth_estimateGas" else answer

    async with liar(deployed.chain.rpc_url, belittle) as url:
        chain = await deployed.client(rpc_url=url)
        assert await chain.apply_object(1, SPACE, Generation(0), b"x") == 1
        await chain.close()
    assert (
        int(await deployed.rpc.call(str, "eth_getTransactionCount", chain.operator, "latest"), 16) == 5
    )  # three deployments before


async def test_a_fixed_gas_limit_is_not_raised(deployed: Any) -> None:
    chain = await deployed.client()
    with pytest.raises(Refused):
        await chain._sender.send(deployed.registry, chain._binding.encode("applyObject", 1, SPACE, 0, b"y", 0), gas=60_000)


async def test_a_revert_after_the_estimate_says_why(deployed: Any) -> None:
    """Sent with a fixed gas limit, so that it is mined and fails there."""
    chain = await deployed.client()
    await chain.apply_object(1, SPACE, Generation(0), b"x")
    with pytest.raises(Conflict, match="at generation 1, not 7"):
        await chain._sender.send(deployed.registry, chain._binding.encode("applyObject", 1, SPACE, 7, b"y", 0), gas=200_000)


async def test_the_contract_itself_counts_each_signer_once(deployed: Any) -> None:
    """The client drops duplicates; a caller without this client could send them."""
    admin = await deployed.client()
    peers = [PeerId(bytes([n]) * 32) for n in (1, 2)]
    for index, peer in enumerate(peers, 1):
        client = await deployed.client(index)
        await client.register_node_with_proof(peer, client.operator, bytes(64))
        await admin.approve_node(peer)
    first, second = await deployed.client(1), await deployed.client(2)
    signatures = [await first.sign_mark_down(peers[1], 1), await second.sign_mark_down(peers[1], 1)]
    lower, upper = signatures if first.operator.lower() < second.operator.lower() else signatures[::-1]
    for wrong in ([lower, lower], [upper, lower], [lower, upper, upper]):
        with pytest.raises(Forbidden, match="counts twice or is out of order"):
            await admin._send("markDown", peers[1], 1, wrong)
    await admin._send("markDown", peers[1], 1, [lower, upper])


async def test_an_account_without_ether_is_told_so(deployed: Any) -> None:
    poor = RegistryChain(deployed.chain.rpc_url, deployed.registry, LocalSigner.generate())
    await poor.start()
    with pytest.raises(Refused, match="cannot pay"):
        await poor.apply_object(1, SPACE, Generation(0), b"x")
    await poor.close()


async def test_a_wrong_address_and_a_wrong_endpoint(deployed: Any) -> None:
    nowhere = RegistryChain(deployed.chain.rpc_url, Address("0x" + "77" * 20), deployed.signers[0])
    with pytest.raises(ConfigInvalid, match="no contract"):
        await nowhere.start()
    await nowhere.close()
    dead = RegistryChain("http://127.0.0.1:9", deployed.registry, deployed.signers[0])
    with pytest.raises(ChainUnavailable):
        await dead.start()
    await dead.close()
    client = rpc.Rpc(deployed.chain.rpc_url)
    with pytest.raises(rpc.RpcRefused):
        await client.call(str, "eth_noSuchMethod")
    await client.close()


async def test_follow_reports_within_the_promise(deployed: Any) -> None:
    """From the call of a write to the event at a follower: well under a second even on a busy machine."""
    chain = await deployed.client()
    stream: AsyncIterator[Any] = chain.follow(from_block=0, from_head=EMPTY_HEAD)
    writing = asyncio.create_task(chain.apply_object(1, SPACE, Generation(0), b"x"))
    async with asyncio.timeout(5):
        async for item in stream:
            if isinstance(item, BlockEvents) and any(isinstance(event, ObjectApplied) for event in item.events):
                break
    await writing
