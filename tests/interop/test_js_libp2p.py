"""js-libp2p and Veil's host talk to each other: ``make test-interop`` (Node 22 and js-libp2p from npm).

What both sides agree on is the transport: TCP, Noise, yamux, multistream, identify, ping. A request is what a node sends for
telemetry: a head and a sealed payload of 16 KB, and the same back.
"""

import json
import os
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import mesh_sites as sites
import pytest
import trio
from libp2p.host.ping import PingService

from veil.errors import MeshUnavailable
from veil.identity import parse_peer_id, peer_id_text
from veil.mesh.framing import pack
from veil.mesh.host import _id_of
from veil.mesh.messages import REQUEST_PROTOCOL, ReplyHead, RequestHead
from veil.types import PeerId

HERE = Path(__file__).parent

NODE = next(iter(HERE.glob("node_modules/node-linux-*/bin/node")), None)

ANSWER_TIMEOUT_S = 90.0
"""Loading js-libp2p takes 2 s on an idle core."""

pytestmark = [
    pytest.mark.mesh,
    pytest.mark.skipif(NODE is None, reason="`make test-interop` installs Node 22 and js-libp2p"),
]


class JsPeer:
    """One process of peer.mjs."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._buffer = b""

    async def ask(self, command: str, **rest: object) -> dict[str, Any]:
        """Raises MeshUnavailable with what the peer's error says."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        await stdin.send_all(json.dumps({"command": command, **rest}).encode() + b"\n")
        with trio.fail_after(ANSWER_TIMEOUT_S):
            while b"\n" not in self._buffer:
                data = await stdout.receive_some()
                assert data, "the js peer ended"
                self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise MeshUnavailable(answer["error"])
        return answer


def play(tmp_path: Path, scenario: Callable[[sites.Site, JsPeer, PeerId, str], Awaitable[None]]) -> None:
    """``scenario`` with a Veil node, a js peer that it does not know yet, that peer's ID and its address."""

    async def main() -> None:
        async with sites.sites(tmp_path, 1) as (site,):
            process = await trio.lowlevel.open_process(
                [str(NODE), str(HERE / "peer.mjs")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=HERE
            )
            try:
                js = JsPeer(process)
                began = await js.ask("start")
                await scenario(site, js, parse_peer_id(began["peer"]), began["addresses"][0].rsplit("/p2p/", 1)[0])
            finally:
                process.kill()
                await process.wait()

    sites.play(main)


def address_of(site: sites.Site) -> str:
    return f"{site.host.addresses()[0]}/p2p/{peer_id_text(site.peer)}"


def test_a_js_peer_joins_is_identified_pings_and_asks(tmp_path):
    async def scenario(site: sites.Site, js: JsPeer, peer: PeerId, _: str) -> None:
        site.registered.add(peer)
        address = address_of(site)
        joined = await js.ask("dial", address=address)
        assert joined["peer"] == peer_id_text(site.peer)
        assert (joined["encryption"], joined["multiplexer"]) == ("/noise", "/yamux/1.0.0")
        await sites.until(lambda: site.host.connected(peer))
        assert REQUEST_PROTOCOL in (await js.ask("identify", address=address))["protocols"]
        assert (await js.ask("ping", address=address))["ms"] < 5000
        for size_bytes in (64, 16_488, 900_000):
            sealed = os.urandom(size_bytes)
            request = pack(RequestHead(protocol="telemetry/1", size_bytes=size_bytes, deadline_ms=5000)) + sealed
            reply = pack(ReplyHead(status="ok", size_bytes=size_bytes)) + sealed
            answer = await js.ask("exchange", address=address, protocol=REQUEST_PROTOCOL, hex=request.hex(), count=len(reply))
            assert bytes.fromhex(answer["hex"]) == reply

    play(tmp_path, scenario)


def test_veil_dials_pings_and_asks_a_js_peer(tmp_path):
    async def scenario(site: sites.Site, js: JsPeer, peer: PeerId, address: str) -> None:
        site.registered.add(peer)
        await site.host.dial(peer, address)
        assert site.host.connected(peer)
        assert len(await PingService(site.host._host).ping(_id_of(peer), 2)) == 2
        wire = await site.host.open(peer, "/interop/echo/1")
        for size_bytes in (64, 16_488, 900_000):
            content = os.urandom(size_bytes)
            await wire.write_bytes(content)
            assert await wire.read_exactly(size_bytes) == content

    play(tmp_path, scenario)


def test_a_js_peer_that_is_not_registered_stays_outside_and_one_struck_off_is_cut_off(tmp_path):
    async def scenario(site: sites.Site, js: JsPeer, peer: PeerId, _: str) -> None:
        with pytest.raises(MeshUnavailable):
            await js.ask("dial", address=address_of(site))
        assert not site.host.connected(peer)
        site.registered.add(peer)
        await js.ask("dial", address=address_of(site))
        await sites.until(lambda: site.host.connected(peer))
        site.registered.clear()
        await site.host.cut_off(peer)
        with pytest.raises(MeshUnavailable):
            await js.ask("ping", address=address_of(site))

    play(tmp_path, scenario)
