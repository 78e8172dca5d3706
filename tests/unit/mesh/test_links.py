"""When connections are made: in virtual time, with a host that connects at once."""

import math
import random
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from veil.errors import MeshUnavailable
from veil.mesh import links
from veil.mesh.links import FEW, PAUSE_S, Links
from veil.types import PeerId

ME = PeerId(bytes(32))
DIAL_S = 0.02


class Dialled:
    """A host whose dials take DIAL_S, or ``slow_s``, and succeed, but for those ``down``."""

    def __init__(self) -> None:
        self.down: set[PeerId] = set()
        self.slow_s: dict[PeerId, float] = {}
        self.dials: list[tuple[float, PeerId]] = []
        self.links: Links | None = None
        self._connected: set[PeerId] = set()

    def connected(self, peer: PeerId) -> bool:
        return peer in self._connected

    def connections(self) -> int:
        return len(self._connected)

    async def dial(self, peer: PeerId, address: str) -> None:
        self.dials.append((trio.current_time(), peer))
        await trio.sleep(self.slow_s.get(peer, DIAL_S))
        if peer in self.down:
            raise MeshUnavailable("down")
        self.set_connected(peer, True)

    async def cut_off(self, peer: PeerId) -> None:
        self.set_connected(peer, False)

    def set_connected(self, peer: PeerId, connected: bool) -> None:
        assert self.links is not None
        (self._connected.add if connected else self._connected.discard)(peer)
        self.links.noticed(peer)


def peer(number: int) -> PeerId:
    return PeerId(number.to_bytes(32, "big"))


def play(count: int, scenario: Callable[[Dialled], Awaitable[None]], down: set[PeerId] | None = None) -> Dialled:
    """``count`` peers, all with larger IDs, are registered at time 0; then ``scenario``."""
    host = Dialled()
    host.down = down or set()

    async def main() -> None:
        host.links = Links(host, ME, random.Random(1))  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            host.links.set_peers({peer(number): ["/ip4/192.0.2.1/tcp/1"] for number in range(1, count + 1)}, nursery)
            await scenario(host)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return host


@pytest.mark.parametrize("paced", [True, False], ids=["", "all at once"])
def test_a_few_are_met_at_once_and_the_others_in_time(monkeypatch, paced):
    if not paced:
        monkeypatch.setattr(links, "PAUSE_S", 0.0)
    met = []

    async def scenario(host):
        start_s = trio.current_time()
        for after_s in (2 * DIAL_S, 2.0, 2.0 + 5 * PAUSE_S, 30 * PAUSE_S):
            await trio.sleep_until(start_s + after_s)
            met.append(host.connections())

    play(40, scenario)
    if paced:
        at_once, soon, later, in_the_end = met
        assert at_once >= 2
        assert FEW <= soon <= FEW + 2
        assert soon + 8 <= later <= soon + 12, "two each PAUSE_S"
        assert in_the_end == 40
    else:
        assert met[1] == 40


@pytest.mark.parametrize("mended", [True, False], ids=["", "in turn"])
def test_what_broke_is_made_again_before_the_others_are_met(monkeypatch, mended):
    if not mended:
        monkeypatch.setattr(links, "SETTLED_S", math.inf)
    again = []

    async def scenario(host):
        await trio.sleep(3.0)
        broken = next(peer for _, peer in host.dials)
        seen = len(host.dials)
        host.set_connected(broken, False)
        await trio.sleep(0.5)
        again.append(broken in [peer for _, peer in host.dials[seen:]])

    play(40, scenario)
    assert again == [mended]


def test_those_who_connect_themselves_take_no_turn():
    async def scenario(host):
        await trio.sleep(3.0)
        for number in range(1, 39):
            host.set_connected(peer(number), True)
        await trio.sleep(3 * PAUSE_S)
        assert host.connections() == 40

    play(40, scenario)


def test_who_is_asked_for_does_not_wait_for_those_that_are_gone():
    gone, wanted = {peer(number) for number in range(1, 21)}, [peer(number) for number in range(21, 41)]
    took_s = []

    async def scenario(host):
        await trio.sleep(20 * PAUSE_S)
        assert host.connections() == 40
        host.slow_s = dict.fromkeys(gone, 10.0)
        host.down |= gone
        for one in (*gone, *wanted):
            host.set_connected(one, False)
        await trio.sleep(1.0)
        assert host.connections() < 20, "those that are gone hold up the others"
        began_s = trio.current_time()
        async with trio.open_nursery() as nursery:
            for one in wanted:
                nursery.start_soon(host.links.connect, one)
        took_s.append(trio.current_time() - began_s)

    play(40, scenario)
    assert took_s[0] < 2 * DIAL_S


def test_peers_that_are_down_are_reported_and_do_not_keep_the_others_waiting():
    down = {peer(number) for number in range(1, 41, 2)}
    unreachable: set[PeerId] = set()

    async def scenario(host):
        host.links.on_unreachable = unreachable.add
        await trio.sleep(2.0)
        assert host.connections() >= FEW
        await trio.sleep(40 * PAUSE_S)
        assert {peer for _, peer in host.dials} >= down
        assert host.connections() == 20

    play(40, scenario, down)
    assert unreachable == down
