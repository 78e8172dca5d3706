"""Which list of allowed images the registry names: its digest is in the newest event only."""

from eth_hash.auto import keccak

from veil.chain.client import RegistryChain
from veil.chain.rpc import LogEntry
from veil.types import Digest

_CHANGED = "0x" + keccak(b"ImageRootChanged(uint64,bytes32,address,bytes32)").hex()


async def image_list_digest(chain: RegistryChain) -> Digest | None:
    """The digest of the list under the present root; None when all images are allowed. Raises ChainUnavailable."""
    root = Digest(bytes(await chain.read("imageRoot")))
    if not any(root):
        return None
    where = {"address": chain.registry, "fromBlock": hex(chain.deploy_block), "topics": [_CHANGED, None, "0x" + root.hex()]}
    found = await chain.endpoints.current().call(list[LogEntry], "eth_getLogs", where)
    return Digest(bytes.fromhex(found[-1].data[2:66]))
