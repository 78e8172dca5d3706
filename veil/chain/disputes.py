"""Which disputes a registry has had: their ids are in the events only."""

from veil.chain import logs
from veil.chain.client import RegistryChain
from veil.chain.rpc import LogEntry
from veil.types import Digest


async def dispute_ids(chain: RegistryChain) -> list[Digest]:
    """Oldest first. Raises ChainUnavailable."""
    topic = "0x" + logs.topic_of("DisputeOpened").hex()
    where = {"address": chain.registry, "fromBlock": hex(chain.deploy_block), "topics": [topic]}
    found = await chain.endpoints.current().call(list[LogEntry], "eth_getLogs", where)
    return list(dict.fromkeys(Digest(bytes.fromhex(log.topics[2][2:])) for log in found))
