"""One question to an RPC endpoint through web3: repeated while the endpoint is away or behind, its errors translated.

Behind means that it names a block whose state it does not have (yet, or any more): servers behind one name do that, and so
does anvil while it mines when it keeps no old states.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import aiohttp
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_random_exponential
from web3.exceptions import Web3Exception, Web3RPCError

from veil.chain import reverts
from veil.errors import ChainUnavailable, Refused, VeilError

PATIENCE_S = 5.0
"""How long a question is repeated."""

AWAY = (OSError, aiohttp.ClientError, asyncio.TimeoutError)
_BEHIND = ("blockoutofrange", "header not found", "missing trie node", "unknown block", "block not found")
T = TypeVar("T")


async def reach(ask: Callable[[], Awaitable[T]], *, call: bytes = b"") -> T:
    """The answer. Raises ChainUnavailable, or what the contract's revert of ``call`` means (:mod:`veil.chain.reverts`)."""
    try:
        async for attempt in AsyncRetrying(
            retry=retry_if_exception(_worth_a_retry),
            stop=stop_after_delay(PATIENCE_S),
            wait=wait_random_exponential(multiplier=0.02, max=2),
            reraise=True,
        ):
            with attempt:
                return await ask()
    except AWAY as error:
        raise ChainUnavailable(
            f"the RPC endpoint does not answer: {error or type(error).__name__}",
            hint="start the chain, or set VEIL_CHAIN_RPC to an endpoint that is up",
        ) from error
    except Web3Exception as error:
        raise translated(error, call) from error
    raise AssertionError("unreachable: AsyncRetrying returns or raises")


def translated(error: Web3Exception, call: bytes = b"") -> VeilError:
    """One of web3's errors as one of the house's."""
    text = str(error)
    if "insufficient funds" in text.lower():
        return Refused(f"the account cannot pay for the gas: {text}", hint="send ether to it")
    return reverts.from_web3(error, call) or ChainUnavailable(
        f"the RPC endpoint refused: {text}", hint="see the endpoint's limits"
    )


def _worth_a_retry(error: BaseException) -> bool:
    if isinstance(error, Web3RPCError):
        return any(sign in str(error).lower() for sign in _BEHIND)
    return isinstance(error, AWAY)
