"""Reading with fewer system calls and fewer copies than libp2p: half of what a blob's receiver does.

Noise asks TCP for two bytes of length, then for the message, each of which would be a system call. And a full message was copied
five times on its way to the muxer, which takes it in two parts, a header and the rest.
"""

from typing import Any

from libp2p.io.exceptions import ConnectionClosedError
from libp2p.security.secure_session import SecureSession

READ_BYTES = 256 * 1024
"""Four full Noise messages."""


class ReadAhead:
    """A raw connection of libp2p's, read in large pieces and given out in small ones. Everything else is the connection's own."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._data = b""
        self._given = 0

    async def read(self, n: int | None = None) -> bytes:
        """Up to ``n`` bytes; none at the end."""
        if self._given == len(self._data):
            self._data, self._given = await self._connection.read(READ_BYTES), 0
        end = len(self._data) if n is None else min(self._given + n, len(self._data))
        part, self._given = self._data[self._given : end], end
        return part

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


class Session(SecureSession):
    """An encrypted connection whose messages are cut, not copied."""

    def __init__(self, secured: SecureSession) -> None:
        super().__init__(
            local_peer=secured.local_peer,
            local_private_key=secured.local_private_key,
            remote_peer=secured.remote_peer,
            remote_permanent_pubkey=secured.remote_permanent_pubkey,
            is_initiator=secured.is_initiator,
            conn=secured.conn,
        )
        self._message = b""
        self._given = 0

    async def read(self, n: int | None = None) -> bytes:
        """Exactly ``n`` bytes, or what there is of one message; fewer only at the end. Raises ConnectionClosedError after it."""
        if n == 0:
            return b""
        part = await self._cut(n)
        if not part:
            raise ConnectionClosedError("Connection closed")
        if n is None or len(part) == n:
            return part
        parts, missing = [part], n - len(part)
        while missing and (part := await self._cut(missing)):
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    async def _cut(self, n: int | None) -> bytes:
        """Up to ``n`` bytes of one message."""
        if self._given == len(self._message):
            self._message, self._given = await self.conn.read_msg(), 0
        end = len(self._message) if n is None else min(self._given + n, len(self._message))
        part, self._given = self._message[self._given : end], end
        return part
