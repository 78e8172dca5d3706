"""Several endpoints, of which one lies, lags, omits or leaves: it is named and left, and the projection is as by a replay."""

import asyncio
import importlib.util
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from veil.chain import endpoints as module
from veil.chain import logs
from veil.chain.client import RegistryChain
from veil.chain.projector import follow
from veil.chain.reading import read_registry
from veil.errors import ChainUnavailable, ConfigInvalid, HeadMismatch
from veil.store.projection import Projection
from veil.types import Generation
from veil.wire.objects import object_id

pytestmark = pytest.mark.chain
SPACE = object_id("default", "")
Twist = Callable[[str, list[Any], dict[str, Any]], dict[str, Any] | None]


def _load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"chain_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


liar = _load("liar").liar


def honest(_method: str, _params: list[Any], answer: dict[str, Any]) -> dict[str, Any] | None:
    return answer


class Censor:
    """Hides everything after the first ``shown`` events, consistently: from logs, and from head()."""

    def __init__(self) -> None:
        self.head = ""
        self.shown = 0

    def __call__(self, method: str, _params: list[Any], answer: dict[str, Any]) -> dict[str, Any]:
        if not self.head:
            return answer
        if method == "eth_getLogs":
            topics = [log for log in answer["result"] if len(log["topics"]) == 4 and int(log["topics"][1], 16) <= self.shown]
            return {**answer, "result": topics}
        if method == "eth_call" and _params[0].get("data") == module.HEAD_CALL:
            return {**answer, "result": self.head}
        return answer


class World:
    """A registry behind proxies, one for each twist, the first one preferred."""

    def __init__(self, deployed: Any, urls: list[str]) -> None:
        self.deployed = deployed
        self.urls = urls

    async def reader(self, *order: int, poll_s: float = 0.02) -> RegistryChain:
        urls = [self.urls[index] for index in order] if order else self.urls
        chain = RegistryChain(
            urls, self.deployed.registry, self.deployed.signers[0], deploy_block=self.deployed.block, poll_s=poll_s
        )
        await chain.start()
        return chain


@asynccontextmanager
async def world(deployed: Any, *twists: Twist) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        yield World(deployed, [await stack.enter_async_context(liar(deployed.chain.rpc_url, twist)) for twist in twists])


@asynccontextmanager
async def projecting(chain: RegistryChain) -> AsyncIterator[Projection]:
    projection = Projection(None, chain.cluster)
    following = asyncio.create_task(follow(chain, projection))
    try:
        yield projection
        if following.done():
            following.result()
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        projection.close()


async def equals_a_replay(projection: Projection, deployed: Any) -> None:
    """The projection has all that an honest endpoint says, and that alone."""
    truth = await deployed.client()
    head = await truth.head()
    await projection.wait_until(lambda: projection.head() == (head.rv, head.accumulator), 20)
    fresh = await read_registry(truth)
    try:
        assert sorted(projection.objects(), key=repr) == sorted(fresh.objects(), key=repr)
        assert projection.policy() == fresh.policy()
    finally:
        fresh.close()


async def write(deployed: Any, count: int, *, first: int = 0) -> None:
    chain = await deployed.client()
    if first == 0:
        await chain.apply_object(1, SPACE, Generation(0), b"space")
    for index in range(first, first + count):
        await chain.apply_object(2, object_id("default", f"w{index}"), Generation(0), b"%d" % index)


async def until(said: Callable[[], bool], *, timeout_s: float = 20) -> None:
    async with asyncio.timeout(timeout_s):
        while not said():
            await asyncio.sleep(0.02)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMPARE_EVERY_S", 0.2)


async def test_one_that_contradicts_itself_is_named_and_left(deployed: Any, caplog: pytest.LogCaptureFixture) -> None:
    await write(deployed, 4)

    def drop(method: str, _params: list[Any], answer: dict[str, Any]) -> dict[str, Any]:
        return {**answer, "result": answer["result"][:-1]} if method == "eth_getLogs" else answer

    async with world(deployed, drop, honest) as found:
        chain = await found.reader()
        async with projecting(chain) as projection:
            await equals_a_replay(projection, deployed)
        (complaint,) = chain.endpoints.complaints
        assert complaint.startswith(f"{found.urls[0]} contradicts itself")
        assert f"leaving the RPC endpoint {found.urls[0]}" in caplog.text
        await chain.close()


async def test_a_consistent_omission_is_found_by_the_majority_and_undone(deployed: Any) -> None:
    """The liar is preferred, so that its lie is followed first; then it is undone from where all agree."""
    await write(deployed, 3)
    censor = Censor()
    async with world(deployed, censor, honest, honest) as found:
        truth, chain = await deployed.client(), await found.reader()
        async with projecting(chain) as projection:
            await equals_a_replay(projection, deployed)
            told = await truth.head()
            censor.head, censor.shown = "0x" + told.rv.to_bytes(32, "big").hex() + told.accumulator.hex() + "00" * 8, told.rv
            await write(deployed, 3, first=3)
            await until(lambda: bool(chain.endpoints.complaints))
            await equals_a_replay(projection, deployed)
        (complaint,) = chain.endpoints.complaints
        assert complaint.startswith(f"{found.urls[0]} shows other events up to block")
        assert complaint.endswith("than 2 others")
        await chain.close()


async def test_invented_events_are_undone(deployed: Any) -> None:
    """A liar who computes the hash chain over an event that never was. After it is left the event is taken back."""
    await write(deployed, 2)
    truth = await deployed.client()
    lying, forged = [False], [""]

    def invent(method: str, params: list[Any], answer: dict[str, Any]) -> dict[str, Any]:
        if not lying[0]:
            return answer
        if method == "eth_getLogs" and answer["result"]:
            last = answer["result"][-1]
            forged_log = {**last, "topics": [*last["topics"][:2], "0x" + object_id("default", "never").hex(), last["topics"][3]]}
            entry = logs.LogEntry(
                forged_log["topics"], last["data"], last["blockNumber"], last["blockHash"], last.get("blockTimestamp")
            )
            after = logs.fold(before, logs.parse(entry))
            forged[0] = "0x" + after.rv.to_bytes(32, "big").hex() + after.accumulator.hex() + "00" * 8
            return {**answer, "result": [*answer["result"][:-1], forged_log]}
        if method == "eth_call" and params[0].get("data") == module.HEAD_CALL and forged[0]:
            return {**answer, "result": forged[0]}
        return answer

    async with world(deployed, invent, honest, honest) as found:
        chain = await found.reader()
        async with projecting(chain) as projection:
            await equals_a_replay(projection, deployed)
            before = await truth.head()
            await chain.endpoints.close()  # no comparison for now
            lying[0] = True
            await write(deployed, 1, first=2)
            never = object_id("default", "never")
            await projection.wait_until(lambda: projection.object(2, never) is not None, 10)
            await chain.endpoints.compare()
            assert "shows other events" in chain.endpoints.complaints[0]
            await equals_a_replay(projection, deployed)
            assert projection.object(2, never) is None
        await chain.close()


async def test_two_that_contradict_each_other_are_both_doubted(deployed: Any) -> None:
    """Nobody can tell which of two lies: nothing new is believed until they agree."""
    await write(deployed, 2)
    truth, censor = await deployed.client(), Censor()
    told = await truth.head()
    async with world(deployed, honest, censor) as found:
        chain = await found.reader()
        projection = Projection(None, chain.cluster)
        censor.head, censor.shown = "0x" + told.rv.to_bytes(32, "big").hex() + told.accumulator.hex() + "00" * 8, told.rv
        await write(deployed, 1, first=2)
        await until(lambda: bool(chain.endpoints.complaints))
        assert "contradict each other" in chain.endpoints.complaints[0]
        assert all(url in chain.endpoints.complaints[0] for url in found.urls)
        with pytest.raises(HeadMismatch, match="contradict each other"):
            await follow(chain, projection)
        projection.close()
        censor.head = ""
        await until(lambda: not chain.endpoints.complaints)
        async with projecting(chain) as projection:
            await equals_a_replay(projection, deployed)
        await chain.close()


async def test_one_that_lags_is_left_and_comes_back(deployed: Any) -> None:
    await write(deployed, 2)
    stuck: list[dict[str, Any]] = []
    lagging = [False]

    def lag(method: str, params: list[Any], answer: dict[str, Any]) -> dict[str, Any]:
        if method != "eth_getBlockByNumber" or params[0] != "latest":
            return answer
        if not lagging[0]:
            stuck[:] = [answer["result"]]
            return answer
        return {**answer, "result": stuck[0]}

    async with world(deployed, lag, honest) as found:
        chain = RegistryChain(found.urls, deployed.registry, deployed.signers[0], deploy_block=deployed.block, poll_s=0.02)
        chain.endpoints._lag_max_s = 1.0
        await chain.start()
        async with projecting(chain) as projection:
            await equals_a_replay(projection, deployed)
            lagging[0] = True
            await deployed.advance(2)
            await write(deployed, 1, first=2)
            await equals_a_replay(projection, deployed)
            assert "lags" in chain.endpoints.complaints[0]
            lagging[0] = False
            await until(lambda: not chain.endpoints.complaints)
        await chain.close()


async def test_one_that_leaves_is_replaced_for_reading_and_writing(deployed: Any) -> None:
    await write(deployed, 2)
    gone = [False]

    def leave(_method: str, _params: list[Any], answer: dict[str, Any]) -> dict[str, Any] | None:
        return None if gone[0] else answer

    async with world(deployed, leave, honest) as found:
        chain = await found.reader()
        async with projecting(chain) as projection:
            await equals_a_replay(projection, deployed)
            gone[0] = True
            assert await chain.apply_object(2, object_id("default", "by-the-other"), Generation(0), b"x") == 1
            await equals_a_replay(projection, deployed)
        assert found.urls[0] in chain.endpoints.complaints[0]
        await chain.close()


async def test_one_of_another_chain_is_left(deployed: Any) -> None:
    def elsewhere(method: str, _params: list[Any], answer: dict[str, Any]) -> dict[str, Any]:
        return {**answer, "result": "0x1"} if method == "eth_chainId" else answer

    async with world(deployed, elsewhere, honest, honest) as found:
        chain = await found.reader()
        assert chain.endpoints.complaints == [f"{found.urls[0]} serves chain 1"]
        assert chain.endpoints.current().url == found.urls[1]
        await chain.close()


async def test_a_reorg_is_no_lie(deployed: Any) -> None:
    """Honest endpoints show different blocks for a moment."""
    await write(deployed, 4)
    async with world(deployed, honest, honest, honest) as found:
        chain = await found.reader()
        async with projecting(chain) as projection:
            await equals_a_replay(projection, deployed)
            for depth in (1, 2, 3):
                await deployed.reorg(depth)
                await asyncio.sleep(0.3)
            await equals_a_replay(projection, deployed)
        assert chain.endpoints.complaints == []
        await chain.close()


async def test_a_restart_with_another_endpoint_takes_back_what_the_first_invented(deployed: Any) -> None:
    """The store was written by a liar; the process ends; the next one asks somebody honest."""
    await write(deployed, 2)
    truth, censor = await deployed.client(), Censor()
    told = await truth.head()
    censor.head, censor.shown = "0x" + told.rv.to_bytes(32, "big").hex() + told.accumulator.hex() + "00" * 8, told.rv
    async with world(deployed, censor) as found:
        chain = await found.reader()
        projection = Projection(None, chain.cluster)
        await write(deployed, 2, first=2)
        newest = int(await deployed.rpc.call(str, "eth_blockNumber"), 16)
        following = asyncio.create_task(follow(chain, projection))
        await projection.wait_until(lambda: projection.finality("latest") >= newest, 10)
        assert projection.head()[0] == told.rv, "the lie is believed while nobody else is asked"
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await chain.close()
    following = asyncio.create_task(follow(truth, projection))
    await equals_a_replay(projection, deployed)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    projection.close()


async def test_no_endpoint_and_none_that_answers(deployed: Any) -> None:
    with pytest.raises(ConfigInvalid):
        RegistryChain([], deployed.registry, deployed.signers[0])
    chain = RegistryChain(["http://127.0.0.1:9", "http://127.0.0.1:10/secret"], deployed.registry, deployed.signers[0])
    with pytest.raises(ChainUnavailable, match="no RPC endpoint can be used") as failure:
        await chain.start()
    assert "secret" not in str(failure.value), "paths of endpoints are secrets with many providers"
    await chain.close()


async def test_another_block_is_a_lie_only_when_it_stays(deployed: Any) -> None:
    """Honest endpoints are on different branches for a moment; one that stays on another is left."""
    await write(deployed, 2)
    forked = [False]

    def fork(method: str, params: list[Any], answer: dict[str, Any]) -> dict[str, Any]:
        if not forked[0] or method != "eth_getBlockByNumber" or params[0] == "latest":
            return answer
        return {**answer, "result": {**answer["result"], "hash": "0x" + "77" * 32}}

    async with world(deployed, honest, fork, honest) as found:
        chain = await found.reader()
        await chain.endpoints.close()  # compared by hand from here on
        forked[0] = True
        for _ in range(module.FORKS_MAX - 1):
            await chain.endpoints.compare()
            assert chain.endpoints.complaints == []
        await chain.endpoints.compare()
        (complaint,) = chain.endpoints.complaints
        assert complaint.startswith(f"{found.urls[1]} shows another block")
        await chain.close()
