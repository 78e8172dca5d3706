"""The dev chain lives on its own, comes back with its state, and a follower survives that."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from veil.chain.client import RegistryChain
from veil.chain.deploy import deploy_registry
from veil.chain.devchain import DevChain
from veil.chain.ports import EMPTY_HEAD, BlockEvents, Rollback
from veil.chain.rpc import Rpc
from veil.chain.signer import LocalSigner
from veil.errors import ConfigInvalid
from veil.types import Generation, Secret
from veil.wire.objects import object_id

pytestmark = pytest.mark.chain


async def _block(url: str) -> int:
    rpc = Rpc(url)
    try:
        return int(await rpc.call(str, "eth_blockNumber"), 16)
    finally:
        await rpc.close()


async def test_it_survives_kill_and_its_launcher(tmp_path: Path) -> None:
    chain = DevChain(tmp_path / "chain")
    await chain.start()
    signer = LocalSigner.generate()
    try:
        await chain.fund(signer.address, 5)
        registry, block = await deploy_registry(chain.rpc_url, signer, signer.address)
        client = RegistryChain(chain.rpc_url, registry, signer, deploy_block=block, poll_s=0.02)
        await client.start()
        first = (await client.head()).rv
        await client.apply_object(1, object_id("default", ""), Generation(0), b"kept")
        stream = client.follow(from_block=0, from_head=EMPTY_HEAD)
        seen = [item async for item in _until_head(stream, first + 1)]
        assert isinstance(seen[-1], BlockEvents)
        await asyncio.sleep(1.3)  # the state is written once a second
        before, url = await _block(chain.rpc_url), chain.rpc_url
        os.kill(chain.pid, signal.SIGKILL)
        again = DevChain(tmp_path / "chain")
        assert again.pid == chain.pid
        async with asyncio.timeout(5):
            while chain.running():
                await asyncio.sleep(0.01)
        await again.start()
        assert again.rpc_url == url, "others have recorded its address"
        assert await _block(url) >= before - 2
        assert (await client.head()).rv == first + 1
        await client.apply_object(1, object_id("default", ""), Generation(1), b"after")
        heads = [item async for item in _until_head(stream, first + 2)]
        assert heads
        await client.close()
        third = DevChain(tmp_path / "chain")
        assert third.running()
        await third.start()
        assert third.pid == again.pid, "a second start finds it running"
        await third.stop()
        assert not third.running()
        assert not again.running()
    finally:
        await chain.stop()
        await DevChain(tmp_path / "chain").stop()


async def test_a_busy_chain_that_keeps_no_old_states(tmp_path: Path) -> None:
    """Its newest state is often gone before it is asked for: writers and followers ask again."""
    chain = DevChain(tmp_path / "chain")
    await chain.start()
    clients: list[RegistryChain] = []
    try:
        signers = [LocalSigner.generate() for _ in range(3)]
        for signer in signers:
            await chain.fund(signer.address)
        registry, block = await deploy_registry(chain.rpc_url, signers[0], signers[0].address)
        for signer in signers:
            clients.append(RegistryChain(chain.rpc_url, registry, signer, deploy_block=block, poll_s=0.02))
            await clients[-1].start()

        async def write(client: RegistryChain, space: str) -> None:
            await client.apply_object(1, object_id(space, ""), Generation(0), b"space")
            for index in range(6):
                await client.apply_object(2, object_id(space, f"w{index}"), Generation(0), b"x")

        first = (await clients[0].head()).rv
        writing = [asyncio.create_task(write(client, f"space{index}")) for index, client in enumerate(clients)]
        found = [item async for item in _until_head(clients[0].follow(from_block=0, from_head=EMPTY_HEAD), first + 21)]
        await asyncio.gather(*writing)
        assert not any(isinstance(item, Rollback) for item in found)
        assert sum(len(item.events) for item in found if isinstance(item, BlockEvents)) == first + 21
    finally:
        for client in clients:
            await client.close()
        await chain.stop()


async def _until_head(stream, rv: int):  # type: ignore[no-untyped-def]
    async with asyncio.timeout(10):
        async for item in stream:
            if isinstance(item, BlockEvents | Rollback):
                yield item
            if isinstance(item, BlockEvents) and item.head.rv == rv:
                return


async def test_it_mines_at_once_and_once_a_second(tmp_path: Path) -> None:
    chain = DevChain(tmp_path / "chain")
    await chain.start()
    try:
        first = await _block(chain.rpc_url)
        async with asyncio.timeout(4):
            while await _block(chain.rpc_url) < first + 2:
                await asyncio.sleep(0.1)
    finally:
        await chain.stop()


def test_keys_are_private(tmp_path: Path) -> None:
    signer = LocalSigner.generate()
    path = tmp_path / "operator.key"
    signer.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert LocalSigner.load(path).address == signer.address
    with pytest.raises(FileExistsError):
        signer.save(path)
    path.chmod(0o640)
    with pytest.raises(ConfigInvalid, match="others may read"):
        LocalSigner.load(path)
    with pytest.raises(ConfigInvalid):
        LocalSigner(Secret(bytes(32)))
