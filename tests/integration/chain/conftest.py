"""One anvil for all tests of the chain, a registry of its own for each test."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest

from veil.chain.client import RegistryChain
from veil.chain.deploy import deploy_registry
from veil.chain.devchain import DevChain
from veil.chain.rpc import Header, Rpc
from veil.chain.signer import LocalSigner
from veil.types import Address

STATES = 600
"""Of how many blocks anvil keeps the state: more than any test goes back."""


@dataclass
class Deployed:
    """A fresh registry; its administrator is the first of ``signers``."""

    chain: DevChain
    registry: Address
    block: int
    signers: list[LocalSigner]
    rpc: Rpc
    _open: list[RegistryChain]

    async def client(self, index: int = 0, *, rpc_url: str = "") -> RegistryChain:
        client = RegistryChain(
            rpc_url or self.chain.rpc_url, self.registry, self.signers[index], deploy_block=self.block, poll_s=0.02
        )
        self._open.append(client)
        await client.start()
        return client

    async def reorg(self, depth: int) -> None:
        """Replace the newest ``depth`` blocks by empty ones. What anvil loses with that fails here, not at a reader."""
        await self.rpc.find(object, "anvil_reorg", depth, [])
        newest = int(await self.rpc.call(str, "eth_blockNumber"), 16)
        numbers = range(newest - depth, newest + 1)
        headers = await self.rpc.batch([("eth_getBlockByNumber", [hex(number), False]) for number in numbers])
        missing = [number for number, header in zip(numbers, headers, strict=True) if header.optional(Header) is None]
        assert not missing, f"anvil lost the blocks {missing} in a reorg of {depth}"

    async def reorg_amid(self, depth: int) -> None:
        """The same while transactions come in. They wait in the pool, as anvil loses blocks that are mined during a reorg."""
        await self.rpc.find(object, "evm_setAutomine", False)
        await self.mine()  # returns when no other block is being made any more
        await self.reorg(depth)
        await self.rpc.find(object, "evm_setAutomine", True)
        await self.mine()

    async def mine(self, blocks: int = 1) -> None:
        await self.rpc.find(object, "anvil_mine", hex(blocks))

    async def advance(self, seconds: int) -> None:
        await self.rpc.find(object, "evm_increaseTime", seconds)
        await self.mine()


@pytest.fixture(scope="session")
def dev_chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevChain]:
    chain = DevChain(tmp_path_factory.mktemp("anvil"), block_time_s=0, keep_states=STATES, persist=False)
    asyncio.run(chain.start())
    yield chain
    asyncio.run(chain.stop())


@pytest.fixture
async def deployed(dev_chain: DevChain) -> AsyncIterator[Deployed]:
    signers = [LocalSigner.generate() for _ in range(4)]
    for signer in signers:
        await dev_chain.fund(signer.address)
    address, block = await deploy_registry(dev_chain.rpc_url, signers[0], signers[0].address)
    result = Deployed(dev_chain, address, block, signers, Rpc(dev_chain.rpc_url), [])
    yield result
    for client in result._open:
        await client.close()
    await result.rpc.close()
