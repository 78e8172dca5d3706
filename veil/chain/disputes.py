"""Which disputes a registry has had, and what became of them: their ids are in the events only."""

import asyncio

from veil.chain.ports import EMPTY_HEAD, BlockEvents, Chain, DisputeClosed, DisputeOpened, Rollback
from veil.chain.reading import READ_TIMEOUT_S
from veil.chain.records import DisputeStatus
from veil.errors import DeadlineExceeded
from veil.types import Digest


async def read_disputes(chain: Chain, *, timeout_s: float = READ_TIMEOUT_S) -> dict[Digest, DisputeStatus]:
    """By id, oldest first, of the events up to the registry's present head: an endpoint can hide none and close none.

    Raises ChainUnavailable, HeadMismatch, DeadlineExceeded.
    """
    head = await chain.head()
    if head == EMPTY_HEAD:
        return {}
    blocks: list[BlockEvents] = []
    try:
        async with asyncio.timeout(timeout_s):
            async for change in chain.follow(from_block=0, from_head=EMPTY_HEAD):
                if isinstance(change, Rollback):
                    blocks = [block for block in blocks if block.block.number <= change.to_block]
                elif isinstance(change, BlockEvents):
                    if any(isinstance(event, DisputeOpened | DisputeClosed) for event in change.events):
                        blocks.append(change)
                    if change.head.rv >= head.rv:
                        break
    except TimeoutError as error:
        raise DeadlineExceeded(
            f"the registry's history was not read in {timeout_s:g} s", hint="see whether the RPC endpoint answers (`veil doctor`)"
        ) from error
    found: dict[Digest, DisputeStatus] = {}
    for event in (event for block in blocks for event in block.events):
        if isinstance(event, DisputeOpened):
            found[event.dispute] = DisputeStatus.OPEN
        elif isinstance(event, DisputeClosed):
            found[event.dispute] = event.status
    return found
