"""An RPC endpoint between a client and anvil that changes what it passes on."""

import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web

Answer = dict[str, Any]
Twist = Callable[[str, list[Any], Answer], Answer | Awaitable[Answer | None] | None]
"""Method, parameters, the true answer; gives back the answer to pass on, now or later, or None to close the connection."""


@asynccontextmanager
async def liar(upstream: str, twist: Twist) -> AsyncIterator[str]:
    """The proxy's URL while the block runs."""
    async with aiohttp.ClientSession() as session:

        async def serve(request: web.Request) -> web.Response:
            body = await request.json()
            calls = body if isinstance(body, list) else [body]
            async with session.post(upstream, json=calls) as response:
                answers = {answer["id"]: answer for answer in await response.json()}
            told = []
            for call in calls:
                answer = twist(call["method"], call.get("params", []), answers[call["id"]])
                told.append(await answer if inspect.isawaitable(answer) else answer)
            if None in told:
                assert request.transport is not None
                request.transport.close()
                return web.Response()
            return web.Response(text=json.dumps(told if isinstance(body, list) else told[0]), content_type="application/json")

        application = web.Application(client_max_size=2**24)
        application.router.add_post("/", serve)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()
