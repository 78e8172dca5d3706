"""What every Mesh promises, whichever driver it is."""

import asyncio
import os

import pytest

from veil.errors import DeadlineExceeded, DigestMismatch, LimitExceeded, MeshUnavailable, NotFound
from veil.identity import Identity
from veil.mesh.ports import METADATA_MAX_BYTES, REQUEST_MAX_BYTES, PeerState
from veil.types import PeerId
from veil.wire.codec import sha256

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def echo(sender: PeerId, payload: bytes) -> bytes:
    return sender[:4] + payload


async def test_requests_go_both_ways_and_name_their_sender(trio_of):
    a, b, _ = trio_of.all
    a.serve("echo/1", echo)
    b.serve("echo/1", echo)
    assert await a.request(b.peer_id, "echo/1", b"hello") == a.peer_id[:4] + b"hello"
    assert await b.request(a.peer_id, "echo/1", b"") == b.peer_id[:4]


async def test_a_peer_can_ask_itself(trio_of):
    trio_of.a.serve("self/1", echo)
    assert await trio_of.a.request(trio_of.a.peer_id, "self/1", b"x") == trio_of.a.peer_id[:4] + b"x"


async def test_many_requests_at_a_time_each_get_their_own_reply(trio_of):
    a, b, _ = trio_of.all

    async def slow_echo(sender: PeerId, payload: bytes) -> bytes:
        await asyncio.sleep(payload[0] / 1000)
        return payload

    b.serve("slow/1", slow_echo)
    payloads = [bytes([number]) * (number + 1) for number in range(40)]
    assert await asyncio.gather(*(a.request(b.peer_id, "slow/1", one) for one in payloads)) == payloads


async def test_the_largest_payload_passes_and_one_byte_more_does_not(trio_of):
    a, b, _ = trio_of.all
    b.serve("echo/1", echo)
    content = os.urandom(REQUEST_MAX_BYTES - 4)
    assert await a.request(b.peer_id, "echo/1", content, deadline_s=20) == a.peer_id[:4] + content
    with pytest.raises(LimitExceeded):
        await a.request(b.peer_id, "echo/1", bytes(REQUEST_MAX_BYTES + 1))


async def test_an_exception_of_a_handler_is_mesh_unavailable_at_the_caller(trio_of):
    a, b, _ = trio_of.all

    async def broken(sender: PeerId, payload: bytes) -> bytes:
        raise RuntimeError("a secret of b")

    b.serve("broken/1", broken)
    with pytest.raises(MeshUnavailable) as caught:
        await a.request(b.peer_id, "broken/1", b"")
    assert "secret" not in caught.value.message
    with pytest.raises(MeshUnavailable):
        await b.request(b.peer_id, "broken/1", b"")


async def test_a_protocol_nobody_serves_is_mesh_unavailable(trio_of):
    with pytest.raises(MeshUnavailable):
        await trio_of.a.request(trio_of.b.peer_id, "nobody/1", b"")


async def test_a_late_reply_is_deadline_exceeded_and_the_next_request_works(trio_of):
    a, b, _ = trio_of.all

    async def never(sender: PeerId, payload: bytes) -> bytes:
        await asyncio.sleep(60)
        return b""

    b.serve("never/1", never)
    b.serve("echo/1", echo)
    with pytest.raises(DeadlineExceeded):
        await a.request(b.peer_id, "never/1", b"", deadline_s=0.2)
    assert await a.request(b.peer_id, "echo/1", b"again") == a.peer_id[:4] + b"again"


async def test_a_stranger_cannot_be_asked(trio_of):
    with pytest.raises(MeshUnavailable):
        await trio_of.a.request(Identity.generate().peer_id, "echo/1", b"")


async def test_members_are_everybody_allowed_and_oneself(trio_of):
    for mesh in trio_of.all:
        members = {member.peer: member for member in mesh.members()}
        assert members.keys() == {one.peer_id for one in trio_of.all}
        assert all(member.state is PeerState.ALIVE for member in members.values())
        assert all(member.incarnation > 0 for peer, member in members.items() if peer != mesh.peer_id)


async def test_metadata_reaches_the_others(trio_of):
    a, b, c = trio_of.all
    a.set_metadata(b"head 7")

    def seen(mesh) -> bytes:
        return next(member.metadata for member in mesh.members() if member.peer == a.peer_id)

    async with asyncio.timeout(10):
        while not (seen(b) == seen(c) == b"head 7"):
            await asyncio.sleep(0.02)
    with pytest.raises(LimitExceeded):
        a.set_metadata(bytes(METADATA_MAX_BYTES + 1))


async def test_a_pushed_blob_is_there(trio_of):
    a, b, c = trio_of.all
    content = os.urandom(100_000)
    digest = await a.put(content)
    assert digest == sha256(content)
    assert await a.has(digest)
    assert not await b.has(digest)
    await a.push(digest, b.peer_id)
    assert await b.has(digest)
    await a.drop(digest)
    assert not await a.has(digest)
    assert await c.get(digest) == content
    assert await c.has(digest)


async def test_an_empty_blob_is_a_blob(trio_of):
    a, b, _ = trio_of.all
    digest = await a.put(b"")
    await a.push(digest, b.peer_id)
    assert await b.get(digest) == b""


async def test_a_blob_nobody_has_is_not_found(trio_of):
    with pytest.raises(NotFound):
        await trio_of.a.get(sha256(b"nobody has this"))
    with pytest.raises(NotFound):
        await trio_of.a.push(sha256(b"nobody has this"), trio_of.b.peer_id)


async def test_a_source_with_wrong_bytes_is_passed_over(trio_of):
    a, b, c = trio_of.all
    content = os.urandom(1000)
    digest = await b.put(content)
    await c.put(content)
    trio_of.spoil(b, digest)
    assert await a.get(digest, sources=[b.peer_id, c.peer_id]) == content


async def test_wrong_bytes_alone_are_a_digest_mismatch_and_are_not_kept(trio_of):
    a, b, _ = trio_of.all
    digest = await b.put(os.urandom(1000))
    trio_of.spoil(b, digest)
    with pytest.raises(DigestMismatch):
        await a.get(digest, sources=[b.peer_id])
    assert not await a.has(digest)


async def test_a_spoilt_blob_is_not_taken_by_whom_it_is_pushed_to(trio_of):
    a, b, _ = trio_of.all
    digest = await a.put(os.urandom(1000))
    trio_of.spoil(a, digest)
    with pytest.raises(DigestMismatch):
        await a.push(digest, b.peer_id)
    assert not await b.has(digest)


async def test_a_blob_spoilt_here_is_fetched_again(trio_of):
    a, b, _ = trio_of.all
    content = os.urandom(1000)
    digest = await a.put(content)
    await b.put(content)
    trio_of.spoil(a, digest)
    assert await a.get(digest) == content


async def test_one_struck_off_is_cut_off_and_comes_back_when_allowed(trio_of):
    a, b, c = trio_of.all
    for mesh in trio_of.all:
        mesh.serve("echo/1", echo)
    allowed = {mesh.peer_id: getattr(mesh, "listen_addresses", ()) for mesh in trio_of.all}
    a.allow({peer: addresses for peer, addresses in allowed.items() if peer != c.peer_id})
    assert c.peer_id not in {member.peer for member in a.members()}
    with pytest.raises(MeshUnavailable):
        await a.request(c.peer_id, "echo/1", b"")
    with pytest.raises((MeshUnavailable, DeadlineExceeded)):
        await c.request(a.peer_id, "echo/1", b"", deadline_s=1)
    assert await b.request(c.peer_id, "echo/1", b"x")
    a.allow(allowed)
    async with asyncio.timeout(20):
        while True:
            try:
                assert await c.request(a.peer_id, "echo/1", b"y", deadline_s=1) == c.peer_id[:4] + b"y"
                break
            except (MeshUnavailable, DeadlineExceeded):
                await asyncio.sleep(0.1)
