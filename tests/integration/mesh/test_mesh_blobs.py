"""Blobs of many pieces, from sources that are slow, die or lie."""

import os
from collections import Counter
from collections.abc import Sequence

import mesh_sites as sites
import pytest
import trio

from veil.errors import DigestMismatch, NotFound
from veil.mesh import fetch
from veil.mesh.blobs import BlobStore
from veil.mesh.messages import PIECE_MAX_BYTES, BlobGet
from veil.mesh.wire import Wire
from veil.types import Digest

pytestmark = pytest.mark.mesh

PIECES = 12


def content_of(pieces: int = PIECES) -> bytes:
    return os.urandom(pieces * PIECE_MAX_BYTES - 1000)


def spoil(site: sites.Site, digest: Digest, at: int = 5 * PIECE_MAX_BYTES) -> None:
    with site.store.path(digest).open("r+b") as file:
        file.seek(at)
        file.write(b"not what it was")


def count_pieces(servers: Sequence[sites.Site], stop_after: int | None = None) -> Counter[sites.Site]:
    """Counts what each server is asked for; after ``stop_after`` of them, it resets the stream instead."""
    asked: Counter[sites.Site] = Counter()
    for server in servers:
        give = server.transfer._give

        async def counted(wire: Wire, get: BlobGet, server: sites.Site = server, give=give) -> None:
            asked[server] += 1
            if stop_after is not None and asked[server] > stop_after:
                await wire.reset()
                return
            await give(wire, get)

        server.transfer._give = counted
    return asked


async def get(reader: sites.Site, digest: Digest, sources: Sequence[sites.Site]) -> bytes:
    await reader.transfer.fetch(digest, [source.peer for source in sources], 30)
    return reader.store.read(digest)


def test_several_sources_share_the_work(tmp_path):
    async def scenario() -> None:
        async with sites.connected_sites(tmp_path, 3) as (reader, *servers):
            content = content_of()
            for server in servers:
                digest = server.store.put(content)
            asked = count_pieces(servers)
            assert await get(reader, digest, servers) == content
            assert sum(asked.values()) == PIECES
            assert min(asked[server] for server in servers) >= 2

    sites.play(scenario)


def test_a_source_that_dies_is_replaced_and_nothing_is_fetched_twice(tmp_path):
    async def scenario() -> None:
        async with sites.connected_sites(tmp_path, 3) as (reader, dying, other):
            content = content_of()
            digest = dying.store.put(content)
            other.store.put(content)
            died = count_pieces([dying], stop_after=3)
            asked = count_pieces([other])
            assert await get(reader, digest, [dying, other]) == content
            assert died[dying] == 4
            assert asked[other] == PIECES - 3

    sites.play(scenario)


def test_what_was_fetched_before_an_interruption_is_not_fetched_again(tmp_path):
    async def scenario() -> None:
        async with sites.connected_sites(tmp_path, 2) as (reader, server):
            content = content_of()
            digest = server.store.put(content)
            asked = count_pieces([server], stop_after=7)
            with pytest.raises(NotFound):
                await get(reader, digest, [server])
            assert not reader.store.has(digest)
            reader.store.sweep()
            asked[server] = -100
            assert await get(reader, digest, [server]) == content
            assert asked[server] + 100 == PIECES - 7

    sites.play(scenario)


@pytest.mark.parametrize("liar_first", [True, False])
def test_a_wrong_byte_among_good_sources_does_not_get_through(tmp_path, liar_first):
    async def scenario() -> None:
        async with sites.connected_sites(tmp_path, 4) as (reader, liar, *honest):
            content = content_of()
            for server in (liar, *honest):
                digest = server.store.put(content)
            spoil(liar, digest)
            servers = [liar, *honest] if liar_first else [*honest, liar]
            assert await get(reader, digest, servers) == content

    sites.play(scenario)


@pytest.mark.parametrize("verified", [True, False], ids=["", "unverified"])
def test_wrong_bytes_alone_are_a_mismatch_and_nothing_stays(tmp_path, monkeypatch, verified):
    if not verified:
        monkeypatch.setattr(BlobStore, "_check", staticmethod(lambda receiving, digest: receiving.sync()))

    async def scenario() -> None:
        async with sites.connected_sites(tmp_path, 3) as (reader, *liars):
            content = content_of(3)
            for server in liars:
                digest = server.store.put(content)
                spoil(server, digest, at=0)
            if not verified:
                await reader.transfer.fetch(digest, [liar.peer for liar in liars], 30)
                assert reader.store.path(digest).read_bytes() != content
                return
            with pytest.raises(DigestMismatch):
                await get(reader, digest, liars)
            assert [path for path in reader.store.directory.iterdir() if path.is_file()] == []

    sites.play(scenario)


def test_a_source_with_another_size_is_passed_over(tmp_path):
    async def scenario() -> None:
        async with sites.connected_sites(tmp_path, 3) as (reader, short, whole):
            content = content_of(3)
            digest = whole.store.put(content)
            short.store.path(digest).write_bytes(content[:-5])
            assert await get(reader, digest, [short, whole]) == content
            reader.store.drop(digest)
            assert await get(reader, digest, [whole, short]) == content

    sites.play(scenario)


def test_a_source_that_stalls_does_not_hold_the_others_up(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "HEDGE_S", 0.2)

    async def scenario() -> None:
        async with sites.connected_sites(tmp_path, 3) as (reader, stalling, other):
            content = content_of()
            digest = stalling.store.put(content)
            other.store.put(content)
            asked = 0

            async def stall(wire: Wire, get: BlobGet) -> None:
                nonlocal asked
                asked += 1
                await trio.sleep_forever()

            stalling.transfer._give = stall
            with trio.fail_after(5):
                assert await get(reader, digest, [stalling, other]) == content
            assert asked == 1
            # The stream of the stalled source was given up, the other's is used again.
            assert not reader.transfer._pool._idle[stalling.peer]
            assert len(reader.transfer._pool._idle[other.peer]) == 1

    sites.play(scenario)


def test_a_large_content_is_offered_before_it_is_pushed(tmp_path):
    async def scenario() -> None:
        async with sites.connected_sites(tmp_path, 2) as (a, b):
            content = content_of(2)
            digest = a.store.put(content)
            await a.transfer.push(digest, b.peer, 10)
            assert b.store.read(digest) == content
            assert b.quota.used(a.peer) == len(content)

    sites.play(scenario)
