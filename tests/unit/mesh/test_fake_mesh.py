"""The faults that a fake network can be given."""

import asyncio

import pytest

from veil.errors import DeadlineExceeded, MeshUnavailable
from veil.mesh.fake import BLOB_PUSH, FakeNetwork
from veil.mesh.faults import Delay, Drop, Hold
from veil.mesh.ports import PeerState

A, B, C = (bytes([number]) * 32 for number in (1, 2, 3))


class Sleeps(list[float]):
    """A sleep that is over at once, and remembers."""

    async def __call__(self, duration_s: float) -> None:
        self.append(duration_s)
        await asyncio.sleep(0)


@pytest.fixture
def sleeps():
    return Sleeps()


@pytest.fixture
async def network(sleeps):
    network = FakeNetwork(sleep=sleeps)
    handled: list[bytes] = []

    async def handle(sender: bytes, payload: bytes) -> bytes:
        handled.append(payload)
        return b"re: " + payload

    for peer in (A, B, C):
        mesh = network.mesh(peer)
        mesh.serve("p/1", handle)
        mesh.allow({A: (), B: (), C: ()})
        await mesh.start()
    network.handled = handled
    return network


async def test_a_lost_request_is_not_handled_a_lost_reply_is(network, sleeps):
    network.afflict(Drop(sender=A, receiver=B, protocol="p/1", leg="request", times=1))
    with pytest.raises(DeadlineExceeded):
        await network.mesh(A).request(B, "p/1", b"1", deadline_s=7)
    assert network.handled == []
    network.afflict(Drop(sender=B, receiver=A, leg="reply", times=1))
    with pytest.raises(DeadlineExceeded):
        await network.mesh(A).request(B, "p/1", b"2", deadline_s=7)
    assert network.handled == [b"2"]
    assert sleeps == [7, 7]
    assert await network.mesh(A).request(B, "p/1", b"3") == b"re: 3"


async def test_a_partition_parts_sides_until_it_heals(network):
    network.partition([A], [B, C])
    with pytest.raises(DeadlineExceeded):
        await network.mesh(A).request(B, "p/1", b"")
    assert await network.mesh(B).request(C, "p/1", b"x")
    network.heal()
    assert await network.mesh(A).request(B, "p/1", b"x")


async def test_a_held_message_waits_for_its_release(network):
    hold = network.afflict(Hold(receiver=B, leg="request"))
    asking = asyncio.create_task(network.mesh(A).request(B, "p/1", b"x"))
    while not hold.waiting:
        await asyncio.sleep(0)
    assert not asking.done()
    hold.release()
    assert await asking == b"re: x"


async def test_a_delayed_message_takes_the_injected_time(network, sleeps):
    network.afflict(Delay(receiver=B, delay_s=3.5))
    await network.mesh(A).request(B, "p/1", b"x")
    assert sleeps == [3.5]


async def test_a_killed_peer_stops_handling_and_fails_at_once(network):
    started, forever = asyncio.Event(), asyncio.Event()

    async def stuck(sender: bytes, payload: bytes) -> bytes:
        started.set()
        await forever.wait()
        return b""

    network.mesh(B).serve("stuck/1", stuck)
    asking = asyncio.create_task(network.mesh(A).request(B, "stuck/1", b""))
    await started.wait()
    network.kill(B)
    with pytest.raises(MeshUnavailable):
        await asking
    with pytest.raises(MeshUnavailable):
        await network.mesh(A).request(B, "p/1", b"")
    network.revive(B)
    assert await network.mesh(A).request(B, "p/1", b"x")


async def test_states_are_what_the_test_says_and_changes_tell(network):
    changes = network.mesh(A).changes()
    network.set_state(C, PeerState.SUSPECT)
    network.set_state(C, PeerState.DEAD, seen_by=[A])
    network.set_state(C, PeerState.DEAD, seen_by=[A])
    assert [(await anext(changes)).state for _ in range(2)] == [PeerState.SUSPECT, PeerState.DEAD]
    assert {m.state for m in network.mesh(B).members() if m.peer == C} == {PeerState.SUSPECT}
    await network.mesh(C).close()
    assert (await anext(changes)).state is PeerState.LEFT


async def test_every_payload_that_passed_is_on_record(network):
    digest = await network.mesh(A).put(b"content")
    await network.mesh(A).push(digest, B)
    await network.mesh(A).request(C, "p/1", b"x")
    assert [(one.protocol, one.leg, one.payload) for one in network.passed] == [
        (BLOB_PUSH, "request", b"content"),
        (BLOB_PUSH, "reply", b""),
        ("p/1", "request", b"x"),
        ("p/1", "reply", b"re: x"),
    ]
