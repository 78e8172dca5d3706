"""The child process that is a node's end of the mesh: ``python -m veil.mesh.meshd --fd N``.

It is a process of its own because libp2p runs on trio and its crypto would stall a node's event loop. Its parent hands it
one end of a socket pair; when the other end closes, for whatever reason, it ends. It sees sealed payloads only. It holds
the node's Ed25519 key, which Noise and the signing of claims need.
"""

import argparse
import gc
import logging
import random
import socket
import sys

import trio

from veil.errors import VeilError, WireInvalid
from veil.identity import Identity
from veil.mesh import control
from veil.mesh.control import Failed, Setup
from veil.mesh.daemon import Daemon
from veil.types import Secret, SystemClock
from veil.wire.codec import Message

logger = logging.getLogger(__name__)

COLLECT_AFTER = (20_000, 20, 20)
"""gc's thresholds; Python's own are 700, 10 and 10."""


class ParentGone(Exception):
    """There is nobody left to work for."""


class ControlSocket:
    """Messages to and from the parent."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._lock = trio.Lock()
        self._buffer = bytearray()

    async def send(self, head: control.FromMeshd, payload: bytes = b"") -> None:
        """A whole message, also when the caller is being cancelled. Raises ParentGone."""
        try:
            async with self._lock:
                with trio.CancelScope(shield=True):
                    await self._stream.send_all(control.pack(head, payload))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ParentGone from error

    async def receive(self) -> tuple[Message, bytes]:
        """Raises ParentGone or WireInvalid."""
        head_bytes, payload_bytes = control.unpack_lengths(await self._read(control.LENGTHS_BYTES))
        head = control.unpack_head(await self._read(head_bytes))
        return head, await self._read(payload_bytes)

    async def _read(self, count: int) -> bytes:
        while len(self._buffer) < count:
            try:
                data = await self._stream.receive_some(1024 * 1024)
            except trio.BrokenResourceError as error:
                raise ParentGone from error
            if not data:
                raise ParentGone
            self._buffer += data
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data


async def run(descriptor: int) -> None:
    """Serves one parent to the end."""
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(socket.socket(fileno=descriptor)))
    parent = ControlSocket(stream)
    setup, seed = await parent.receive()
    if not isinstance(setup, Setup):
        raise WireInvalid("the first message is not Setup")
    try:
        daemon = Daemon(parent, setup, Identity(Secret(seed)), random.SystemRandom(), SystemClock())
        await daemon.run()
    except* VeilError as group:
        error = _first(group)
        await parent.send(Failed(message=error.message, hint=error.hint))
        raise


def _first(group: BaseExceptionGroup[VeilError]) -> VeilError:
    """trio's nurseries wrap what they raise, as often as they are nested."""
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


def collect_rarely() -> None:
    """For a process that runs for weeks: what was imported is never looked at again, and the rest not every few milliseconds.

    libp2p's modules are most of the heap, and looking through all of it takes 0.1 s, in which nobody's ping is answered.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


def main() -> None:
    parser = argparse.ArgumentParser(prog="veil-meshd", description="A node's end of the mesh; started by the node.")
    parser.add_argument("--fd", type=int, required=True, help="the socket to the parent, inherited")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    # libp2p logs every refused handshake as an error with its traceback; what matters is reported by this package.
    logging.getLogger("libp2p").setLevel(logging.CRITICAL)
    collect_rarely()
    try:
        trio.run(run, options.fd)
    except* ParentGone:
        logger.debug("the parent is gone")
    except* VeilError as group:
        error = _first(group)
        logger.error("meshd ends: %s", error.message)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
