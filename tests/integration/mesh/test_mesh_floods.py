"""Floods and dribbles, from strangers and from registered peers. Each runs a second time with the defence taken away."""

import contextlib
import os
import struct
from pathlib import Path

import mesh_sites as sites
import pytest
import trio
from libp2p.stream_muxer.yamux.yamux import TYPE_DATA, YAMUX_HEADER_FORMAT

from veil.config import MeshLimits
from veil.errors import MeshUnavailable
from veil.identity import Identity
from veil.mesh import door, exchange, heartbeat, muxer, pace, transfer
from veil.mesh.budget import Buckets
from veil.mesh.framing import HEAD_MAX_BYTES
from veil.mesh.host import Host, _id_of
from veil.mesh.messages import BLOB_PROTOCOL, REQUEST_PROTOCOL, BlobPut, BlobReply, RequestHead
from veil.mesh.quota import Quota
from veil.mesh.wire import Wire

pytestmark = pytest.mark.mesh

LIMITS = MeshLimits()
OPEN = MeshLimits(handshake_burst=10**9, streams=10**9, unread_mib=10**9, peer_disk_mib=10**9)

defended = pytest.mark.parametrize("defended", [True, False], ids=["", "undefended"])


def tokens(since_s: float) -> int:
    """The handshakes that one address may have begun since then."""
    return int(LIMITS.handshake_burst + 1 + LIMITS.handshakes_per_s * (trio.current_time() - since_s))


def port_of(site: sites.Site) -> int:
    return int(site.host.addresses()[0].rsplit("/", 1)[1])


async def still_open(streams: list[trio.SocketStream]) -> int:
    """How many the other side has not closed."""
    count = 0
    for stream in streams:
        with trio.move_on_after(0.02):
            try:
                if not await stream.receive_some(1):
                    continue
            except trio.BrokenResourceError:
                continue
        count += 1
    return count


async def flood(port: int, count: int) -> int:
    """``count`` TCP connections that say nothing; how many of them were let in and wait for a handshake."""
    let_in = 0
    for _ in range(count // 100):
        streams = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(100)]
        await trio.sleep(0.05)
        let_in += await still_open(streams)
        for stream in streams:
            await stream.aclose()
    return let_in


@defended
def test_raw_connects_are_refused_before_any_handshake_and_peers_are_served_meanwhile(tmp_path, monkeypatch, defended):
    if not defended:
        monkeypatch.setattr(door, "TOTAL_BURST", 10**9)
    count = 10_000 if defended else 200

    async def scenario() -> None:
        async with sites.sites(tmp_path, 3, LIMITS if defended else OPEN) as (server, peer, late):
            server.register(peer)
            peer.register(server)
            await sites.until(lambda: server.host.connected(peer.peer) and peer.host.connected(server.peer))
            began_s = trio.current_time()
            let_in = await flood(port_of(server), count)
            allowed = tokens(began_s)
            answer = await peer.exchange.ask(server.peer, "echo/1", b"still there?", 2)
            assert answer.sealed == b"still there?"
            if defended:
                assert let_in <= allowed
                assert server.host.door.refused >= count - allowed
                # A newcomer behind the attacker's address is not let in, and is dialled.
                late.register(server)
                server.register(peer, late)
                await sites.until(lambda: server.host.connected(late.peer))
            else:
                assert let_in == count

    sites.play(scenario)


@defended
def test_a_hundred_handshakes_of_strangers_cost_a_few(tmp_path, monkeypatch, defended):
    if not defended:
        monkeypatch.setattr(door, "TOTAL_BURST", 10**9)

    async def scenario() -> None:
        async with sites.sites(tmp_path, 1, LIMITS if defended else OPEN) as (server,):
            began_s = trio.current_time()
            stranger = Host(Identity.generate().seed, lambda peer: True)
            async with stranger.run(sites.LISTEN):
                for _ in range(100):
                    try:
                        with trio.move_on_after(1):
                            await stranger.dial(server.peer, server.host.addresses()[0])
                    except MeshUnavailable:
                        continue
            if defended:
                assert server.host.noise.refused <= tokens(began_s)
            else:
                assert server.host.noise.refused == 100

    sites.play(scenario)


@defended
def test_a_peer_cannot_open_streams_without_end(tmp_path, defended):
    async def scenario() -> None:
        async with sites.connected_sites(tmp_path, 2, MeshLimits(streams=20) if defended else OPEN) as (server, attacker):
            connection = muxed(attacker, server)
            for _ in range(60):
                await connection.open_stream()
            await trio.sleep(0.5)
            held = sum(not one.is_initiator for one in muxed(server, attacker).streams.values())
            assert held <= 20 if defended else held >= 60

    sites.play(scenario)


def muxed(of: sites.Site, to: sites.Site):
    """The muxed connection from one to the other."""
    return of.host._network.get_connections(_id_of(to.peer))[0].muxed_conn


@defended
def test_bytes_that_nobody_reads_end_the_connection(tmp_path, monkeypatch, defended):
    monkeypatch.setattr(muxer, "UNREAD_CHECK_BYTES", 256 * 1024)

    async def scenario() -> None:
        async with sites.connected_sites(tmp_path, 2, MeshLimits(unread_mib=2) if defended else OPEN) as (server, attacker):

            async def never_reads(wire: Wire) -> None:
                await trio.sleep_forever()

            server.host.serve("/never/1", never_reads)
            wire = await attacker.host.open(server.peer, "/never/1")
            connection, number = muxed(attacker, server), wire._stream.muxed_stream.stream_id
            frame = struct.pack(YAMUX_HEADER_FORMAT, 0, TYPE_DATA, 0, number, 64 * 1024) + bytes(64 * 1024)
            victim = muxed(server, attacker)
            with contextlib.suppress(Exception), trio.move_on_after(5):
                for _ in range(8 * 16):
                    await connection.secured_conn.write(frame)
            if defended:
                await sites.until(lambda: victim.is_closed)
            else:
                await sites.until(lambda: any(len(one) >= 8 * 1024**2 for one in victim.stream_buffers.values()))

    sites.play(scenario)


async def is_cut_off(wire: Wire, within_s: float) -> bool:
    with trio.move_on_after(within_s):
        try:
            await wire.read_exactly(1)
        except MeshUnavailable:
            return True
    return False


@defended
@pytest.mark.parametrize("protocol", [REQUEST_PROTOCOL, BLOB_PROTOCOL])
def test_a_head_that_dribbles_is_cut_off(tmp_path, monkeypatch, protocol, defended):
    for module in (exchange, transfer):
        monkeypatch.setattr(module, "FRAME_TIMEOUT_S", 0.3 if defended else 1000.0)

    async def scenario() -> None:
        async with sites.connected_sites(tmp_path, 2) as (server, attacker):
            wire = await attacker.host.open(server.peer, protocol)
            await wire.write_bytes(b"\0\0")
            assert await is_cut_off(wire, 2.0 if defended else 1.0) is defended

    sites.play(scenario)


@defended
def test_a_blob_that_dribbles_is_cut_off_though_something_always_comes(tmp_path, monkeypatch, defended):
    monkeypatch.setattr(pace, "STALL_TIMEOUT_S", 0.5)
    monkeypatch.setattr(pace, "RATE_MIN_BYTES_PER_S", 10**6 if defended else 1)

    async def scenario() -> None:
        async with sites.connected_sites(tmp_path, 2) as (server, attacker), trio.open_nursery() as nursery:
            wire = await attacker.host.open(server.peer, BLOB_PROTOCOL)
            await wire.write(BlobPut(digest=bytes(32), size_bytes=100_000))

            async def dribble() -> None:
                while True:
                    await wire.write_bytes(b"x")
                    await trio.sleep(0.1)

            async def ignoring_the_end() -> None:
                try:
                    await dribble()
                except MeshUnavailable:
                    return

            nursery.start_soon(ignoring_the_end)
            assert await is_cut_off(wire, 3.0 if defended else 1.5) is defended
            nursery.cancel_scope.cancel()

    sites.play(scenario)


@pytest.mark.parametrize("protocol", [REQUEST_PROTOCOL, BLOB_PROTOCOL])
def test_a_head_over_the_limit_is_cut_off_before_it_comes(tmp_path, protocol):
    async def scenario() -> None:
        async with sites.connected_sites(tmp_path, 2) as (server, attacker):
            wire = await attacker.host.open(server.peer, protocol)
            await wire.write_bytes(struct.pack(">I", HEAD_MAX_BYTES + 1))
            assert await is_cut_off(wire, 2)
            within = await attacker.host.open(server.peer, protocol)
            await within.write_bytes(struct.pack(">I", HEAD_MAX_BYTES))
            assert not await is_cut_off(within, 0.5)

    sites.play(scenario)


@defended
def test_a_peer_cannot_make_this_node_hold_more_than_its_share(tmp_path, monkeypatch, defended):
    monkeypatch.setattr(exchange, "HELD_MAX_BYTES", 3_000_000 if defended else 10**9)

    async def scenario() -> None:
        async with sites.connected_sites(tmp_path, 2) as (server, attacker):
            wires = []
            for _ in range(6):
                wire = await attacker.host.open(server.peer, REQUEST_PROTOCOL)
                await wire.write(RequestHead(protocol="echo/1", size_bytes=1_000_000, deadline_ms=1000))
                wires.append(wire)
            cut_off = [await is_cut_off(wire, 0.3) for wire in wires]
            assert sum(cut_off) == (3 if defended else 0)

    sites.play(scenario)


@defended
def test_a_peer_cannot_fill_the_disk(tmp_path, defended):
    async def scenario() -> None:
        async with sites.connected_sites(tmp_path, 2) as (server, attacker):
            server.transfer._quota = Quota(server.store, peer_max_bytes=1_000_000 if defended else 10**9, max_bytes=10**9)
            refused = 0
            for _ in range(6):
                digest = attacker.store.put(os.urandom(300_000))
                try:
                    await attacker.transfer.push(digest, server.peer, 5)
                except MeshUnavailable:
                    refused += 1
            assert refused == (3 if defended else 0)
            small = attacker.store.put(os.urandom(200_000))
            if defended:
                with pytest.raises(MeshUnavailable, match="keeps no more"):
                    await attacker.transfer.push(small, server.peer, 5)
            assert used_bytes(server.store.directory) == (900_000 if defended else 1_800_000)

    sites.play(scenario)


def used_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.iterdir() if path.is_file())


def test_swim_frames_beyond_the_budget_are_read_more_slowly():
    clock = [0.0]
    received: Buckets[bytes] = Buckets(heartbeat.RECEIVED_BURST_BYTES, heartbeat.RECEIVED_BYTES_PER_S, 10, lambda: clock[0])
    waits = [received.spend(b"peer", heartbeat.FRAME_COST_BYTES) for _ in range(10_000)]
    assert waits[4095] == 0.0
    assert waits[-1] > 20
    assert received.spend(b"another", heartbeat.FRAME_COST_BYTES) == 0.0


def test_a_reply_that_no_asker_expects_is_not_a_blob_message(tmp_path):
    async def scenario() -> None:
        async with sites.connected_sites(tmp_path, 2) as (server, attacker):
            wire = await attacker.host.open(server.peer, BLOB_PROTOCOL)
            await wire.write(BlobReply(status="ok"))
            assert await is_cut_off(wire, 2)

    sites.play(scenario)
