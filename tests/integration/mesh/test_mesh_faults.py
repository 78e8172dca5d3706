"""Processes that are killed, and what the others see of it."""

import asyncio
import os
import signal
import sys
import textwrap
from pathlib import Path

import pytest

from veil.errors import MeshUnavailable
from veil.identity import Identity
from veil.mesh.client import LibP2PMesh
from veil.mesh.ports import PeerState
from veil.types import ClusterId

pytestmark = pytest.mark.mesh


async def kill_node(mesh: LibP2PMesh) -> None:
    """As ``kill -9`` of a node and its meshd: no farewell, nobody to start it again."""
    supervisor = mesh._child._supervisor
    assert supervisor is not None
    supervisor.cancel()
    await asyncio.gather(supervisor, return_exceptions=True)


async def echo(sender: bytes, payload: bytes) -> bytes:
    return payload


async def test_a_killed_meshd_comes_back_a_killed_node_is_found_dead_and_leaving_is_neither(tmp_path, loopback):
    async with loopback.meshes(tmp_path) as meshes:
        a, b, c = meshes
        c.serve("echo/1", echo)
        seen = a.changes()
        first_pid, first_address = c.pid, c.listen_addresses
        assert os.getsid(first_pid) != os.getsid(0), "a terminal's Ctrl-C would reach it"

        os.kill(first_pid, signal.SIGKILL)
        await loopback.until(
            lambda: (
                c.pid not in (None, first_pid)
                and loopback.sees_alive(c, a, b)
                and loopback.sees_alive(a, c)
                and loopback.sees_alive(b, c)
            )
        )
        assert c.listen_addresses == first_address
        assert await a.request(c.peer_id, "echo/1", b"x") == b"x"

        await kill_node(c)
        states = []
        async with asyncio.timeout(20):
            while PeerState.DEAD not in states:
                member = await anext(seen)
                if member.peer == c.peer_id:
                    states.append(member.state)
        assert states[-2:] == [PeerState.SUSPECT, PeerState.DEAD]
        await loopback.until(lambda: loopback.state_of(b, c.peer_id) is PeerState.DEAD)
        assert loopback.sees_alive(a, b)
        assert loopback.sees_alive(b, a)
        with pytest.raises(MeshUnavailable):
            await a.request(c.peer_id, "echo/1", b"x")

        await c.start()
        await loopback.until(lambda: loopback.sees_alive(a, c) and loopback.sees_alive(b, c) and loopback.sees_alive(c, a, b))
        assert await b.request(c.peer_id, "echo/1", b"y") == b"y"

        await c.close()
        await loopback.until(
            lambda: loopback.state_of(a, c.peer_id) is loopback.state_of(b, c.peer_id) is PeerState.LEFT, timeout_s=3
        )


async def test_meshd_ends_with_its_parent(tmp_path, loopback):
    script = textwrap.dedent(
        f"""
        import asyncio, sys
        from pathlib import Path
        from veil.identity import Identity
        from veil.mesh.client import LibP2PMesh
        from veil.types import ClusterId

        async def main():
            mesh = LibP2PMesh(Identity.generate(), ClusterId(bytes(32)), blobs=Path({str(tmp_path)!r}) / "blobs")
            await mesh.start()
            print(mesh.pid, flush=True)
            await asyncio.sleep(60)

        asyncio.run(main())
        """
    )
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(await asyncio.wait_for(parent.stdout.readline(), 30))
    arguments = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
    assert b"meshd" in arguments
    assert b"seed" not in arguments.lower()
    parent.kill()
    await parent.wait()
    await loopback.until(lambda: not Path(f"/proc/{pid}").exists() or " Z " in Path(f"/proc/{pid}/stat").read_text(), timeout_s=5)


async def test_a_mesh_that_cannot_start_says_why(tmp_path):
    mesh = LibP2PMesh(Identity.generate(), ClusterId(bytes(32)), blobs=tmp_path, listen=["not an address"])
    with pytest.raises(MeshUnavailable, match="not an address"):
        await mesh.start()
    assert mesh.pid is None
    mesh.allow({bytes(32): ()})
    with pytest.raises(MeshUnavailable):
        await mesh.push(await mesh.put(b""), bytes(32))
