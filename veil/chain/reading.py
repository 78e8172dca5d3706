"""One look at the registry, for programs that run no node: everything that it says at its present head."""

import asyncio

from veil.chain.ports import Chain
from veil.chain.projector import follow
from veil.errors import DeadlineExceeded
from veil.store.projection import Projection

READ_TIMEOUT_S = 120.0
"""How long reading all of a registry's history may take."""


async def read_registry(chain: Chain, *, timeout_s: float = READ_TIMEOUT_S) -> Projection:
    """A projection in memory, as of now; it is not kept up to date. The caller closes it.

    Raises ChainUnavailable, HeadMismatch, DeadlineExceeded.
    """
    head = await chain.head()
    projection = Projection(None, chain.cluster)
    following = asyncio.create_task(follow(chain, projection))
    waiting = asyncio.create_task(projection.wait_until(lambda: projection.head()[0] >= head.rv, timeout_s))
    try:
        await asyncio.wait((following, waiting), return_when=asyncio.FIRST_COMPLETED)
        if following.done():
            following.result()
        await waiting
    except BaseException as error:
        projection.close()
        if isinstance(error, DeadlineExceeded):
            raise DeadlineExceeded(f"the registry's history was not read in {timeout_s:g} s", hint=error.hint) from error
        raise
    finally:
        for task in (following, waiting):
            task.cancel()
        await asyncio.gather(following, waiting, return_exceptions=True)
    return projection
