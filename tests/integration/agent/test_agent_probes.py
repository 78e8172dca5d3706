"""Probes of real containers: over HTTP and TCP into a container without a network, and by a command in it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from veil.agent.probe_calls import ProbeCalls
from veil.agent.probes import HttpAction, TcpAction
from veil.runtime.netns import tcp_socket

pytestmark = pytest.mark.runtime


class Here:
    """The part of a runtime that HTTP and TCP need: the container's network is this process's."""

    async def open_socket(self, id: str) -> Any:
        return tcp_socket()


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A server with a path for each answer."""

    async def answer(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name == "slow":
            await asyncio.sleep(30)
        if name.startswith("to-"):
            target = {"to-200": "/200", "to-500": "/500", "to-else": "http://192.0.2.1/", "to-self": "/to-self"}[name]
            raise web.HTTPFound(target)
        if name == "headers":
            wanted = request.headers["X-A"] == "b" and request.headers["Host"] == "shop" and request.query["c"] == "d"
            name = "200" if wanted and request.headers["User-Agent"] == "veil-probe/1" else "500"
        return web.Response(status=int(name), text="x" * 100_000)

    app = web.Application()
    app.router.add_get("/{name}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0][1]
    await runner.cleanup()


@pytest.mark.parametrize(
    ("path", "success"),
    [
        ("/200", True),
        ("/204", True),
        ("/304", True),
        ("/404", False),
        ("/500", False),
        ("/to-200", True),
        ("/to-500", False),
        ("/to-else", True),
        ("/slow", False),
    ],
)
async def test_http(port: int, path: str, success: bool) -> None:
    calls = ProbeCalls(Here())  # type: ignore[arg-type]
    assert await calls.ask("a", HttpAction(port, path), 0.5) is success


async def test_http_sends_what_the_template_says(port: int) -> None:
    action = HttpAction(port, "/headers?c=d", headers=(("X-A", "b"), ("Host", "shop")))
    assert await ProbeCalls(Here()).ask("a", action, 5)  # type: ignore[arg-type]


async def test_nobody_listens_or_speaks_something_else(port: int) -> None:
    calls = ProbeCalls(Here())  # type: ignore[arg-type]
    assert await calls.ask("a", TcpAction(port), 5)
    assert not await calls.ask("a", HttpAction(port, "/200", scheme="HTTPS"), 5)
    with contextlib.closing(tcp_socket()) as bound:
        bound.bind(("127.0.0.1", 0))
        assert not await calls.ask("a", TcpAction(bound.getsockname()[1]), 5)
        assert not await calls.ask("a", HttpAction(bound.getsockname()[1]), 5)
