"""Who may not connect, and what those on the way do not see."""

import asyncio
import contextlib
import os

import psutil
import pytest
import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.exceptions import BaseLibp2pError
from libp2p.peer.id import ID
from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport
from multiaddr.multiaddr import Multiaddr

from veil.errors import DeadlineExceeded, MeshUnavailable, Untrusted
from veil.identity import Identity, peer_id_text
from veil.mesh.capture import read_capture
from veil.mesh.client import LibP2PMesh
from veil.mesh.control import Ask
from veil.mesh.messages import BLOB_PROTOCOL, REQUEST_PROTOCOL, SWIM_PROTOCOL
from veil.mesh.ports import PeerState
from veil.mesh.sealing import open_request

pytestmark = pytest.mark.mesh

LOOPBACK = Multiaddr("/ip4/127.0.0.1/tcp/0")


def established(mesh: LibP2PMesh) -> set[object]:
    connections = psutil.Process(mesh.pid).net_connections(kind="tcp")
    return {(one.laddr, one.raddr) for one in connections if one.status == psutil.CONN_ESTABLISHED}


async def impersonate(victim_seed: bytes, address: str | None) -> bool:
    """Whether a server takes somebody who knows only the victim's public key for the victim.

    ``address`` None attacks libp2p's stock host, which shows that the attack works.
    """
    victim = ID.from_pubkey(create_new_key_pair(victim_seed).public_key)

    class PublicKeyOnly:
        def get_public_key(self):
            return create_new_key_pair(victim_seed).public_key

    own = create_new_key_pair(os.urandom(32))
    plaintext = InsecureTransport(own)
    plaintext.local_peer = victim
    plaintext.local_private_key = PublicKeyOnly()
    attacker = new_host(key_pair=own, sec_opt={PLAINTEXT_PROTOCOL_ID: plaintext})
    stock = new_host()
    async with attacker.run(listen_addrs=[LOOPBACK]), stock.run(listen_addrs=[LOOPBACK]):
        target = Multiaddr(address) if address else stock.get_transport_addrs()[0]
        # The server's peer ID is not what is attacked: plaintext would check it against the address's.
        server = stock.get_id()
        if address:
            server = ID.from_base58(address.rsplit("/", 1)[1])
            target = Multiaddr(address.rsplit("/p2p/", 1)[0])
        accepted = False
        with trio.move_on_after(4):
            with contextlib.suppress(BaseLibp2pError):
                await attacker.get_network().dial_addr(target, server)
                await trio.sleep(0.3)
                accepted = address is not None or victim in stock.get_network().connections
        await attacker.close()
        await stock.close()
    return accepted


async def test_plaintext_impersonation_works_on_a_stock_host_and_not_on_ours(tmp_path, loopback):
    victim = Identity.generate()
    assert await asyncio.to_thread(trio.run, impersonate, victim.seed.reveal(), None)
    async with loopback.meshes(tmp_path, 1) as (mesh,):
        mesh.allow({victim.peer_id: ()})
        address = f"{mesh.listen_addresses[0]}/p2p/{peer_id_text(mesh.peer_id)}"
        assert not await asyncio.to_thread(trio.run, impersonate, victim.seed.reveal(), address)
        assert loopback.state_of(mesh, victim.peer_id) is PeerState.SUSPECT


async def test_addresses_that_a_peer_made_up_do_no_harm(tmp_path, loopback):
    async with loopback.meshes(tmp_path, 1) as (mesh,):
        pid, liar = mesh.pid, Identity.generate().peer_id
        lies = [
            "",
            "nonsense",
            "/ip4/300.1.1.1/tcp/1",
            "/ip4/127.0.0.1/udp/9/quic-v1",
            "/unix/etc/passwd",
            "/ip4/127.0.0.1/tcp/1",
        ]
        lies += [f"/ip4/127.0.0.1/tcp/1/p2p/{peer_id_text(mesh.peer_id)}", "/onion3/x:1", "/p2p-circuit", "/ip4/127.0.0.1/tcp/x"]
        mesh.allow({liar: lies})
        with pytest.raises((MeshUnavailable, DeadlineExceeded)):
            await mesh.request(liar, "round/1", b"", deadline_s=3)
        mesh.allow({liar: ["/ip6/zz/tcp/1"]})
        with pytest.raises((MeshUnavailable, DeadlineExceeded)):
            await mesh.request(liar, "round/1", b"", deadline_s=3)
        assert mesh.pid == pid


async def test_the_unregistered_are_refused_and_the_sealed_stays_sealed(tmp_path, loopback):
    async with loopback.meshes(tmp_path, 3, capture=True) as meshes:
        a, b, c = meshes
        secret = b"a figure that nobody else may see"

        async def answer(sender, payload):
            return payload[::-1]

        b.serve("round/1", answer)
        assert await a.request(b.peer_id, "round/1", secret) == secret[::-1]
        digest = await a.put(b"public content")
        await a.push(digest, c.peer_id)

        everything = list(read_capture(tmp_path / "0" / "capture"))
        opened = [record for record in everything if record.protocol == "opened:round/1"]
        assert [(record.receiver, record.content) for record in opened] == [(b.peer_id, secret)]
        records = [record for record in everything if record not in opened]
        assert {record.protocol for record in records} == {REQUEST_PROTOCOL, BLOB_PROTOCOL, SWIM_PROTOCOL}
        asked = [r.content for r in records if r.protocol == REQUEST_PROTOCOL and r.receiver == b.peer_id]
        assert len(asked) == 1
        sealed = asked[0][4 + int.from_bytes(asked[0][:4], "big") :]
        assert open_request(b._identity, a.peer_id, "round/1", sealed)[1] == secret
        for eavesdropper in (a, c):
            with pytest.raises(Untrusted):
                open_request(eavesdropper._identity, a.peer_id, "round/1", sealed)
        assert all(secret not in record.content for record in records)
        # Who has it from the wire sends it again: it is not the peer for whom it was sealed.
        replay = Ask(call=10**6, peer=b.peer_id, protocol="round/1", deadline_ms=5000)
        assert (await c._call(replay.call, replay, sealed, 5))[0].status == "failed"
        assert len([one for one in read_capture(tmp_path / "1" / "capture") if one.protocol == "opened:round/1"]) == 1
        assert any(b"public content" in r.content for r in records if r.receiver == c.peer_id)
        replies = [record for record in read_capture(tmp_path / "1" / "capture") if not record.protocol.startswith("opened:")]
        assert any(record.protocol == REQUEST_PROTOCOL and record.receiver == a.peer_id for record in replies)
        assert all(secret[::-1] not in record.content for record in replies)

        stranger = LibP2PMesh(Identity.generate(), loopback.cluster, blobs=tmp_path / "stranger", preset="local")
        await stranger.start()
        try:
            stranger.allow(loopback.addresses([*meshes, stranger]))
            with pytest.raises((MeshUnavailable, DeadlineExceeded)):
                await stranger.request(b.peer_id, "round/1", b"let me in", deadline_s=1)
            with pytest.raises((MeshUnavailable, DeadlineExceeded)):
                await stranger.push(await stranger.put(b"spam"), b.peer_id, deadline_s=1)
            assert {loopback.state_of(stranger, mesh.peer_id) for mesh in meshes} == {PeerState.SUSPECT}
            # The control: once registered, the same stranger gets in.
            for mesh in meshes:
                mesh.allow(loopback.addresses([*meshes, stranger]))
            await loopback.until(lambda: loopback.sees_alive(stranger, *meshes))
            assert await stranger.request(b.peer_id, "round/1", b"ab") == b"ba"
            # Struck off again, its live connections end.
            before = established(stranger)
            assert before
            for mesh in meshes:
                mesh.allow(loopback.addresses(meshes))
            await loopback.until(lambda: not established(stranger) & before)
        finally:
            await stranger.close()
