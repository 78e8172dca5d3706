"""Bytes come out as they went in, however they are cut."""

import random
from types import SimpleNamespace

import pytest
from libp2p.io.exceptions import ConnectionClosedError

from veil.mesh.readahead import READ_BYTES, ReadAhead, Session

MESSAGES = [b"abcdef", b"gh", b"i" * 40, b"j"]
WHOLE = b"".join(MESSAGES)


class Encrypted:
    """Hands out decrypted messages, then nothing."""

    def __init__(self) -> None:
        self._left = list(MESSAGES)

    async def read_msg(self) -> bytes:
        return self._left.pop(0) if self._left else b""


def session() -> Session:
    secured = SimpleNamespace(
        local_peer=None,
        local_private_key=None,
        remote_peer=None,
        remote_permanent_pubkey=None,
        is_initiator=True,
        conn=Encrypted(),
    )
    return Session(secured)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(5))
async def test_a_session_gives_exactly_what_is_asked_for_until_its_end(seed):
    dice, reading, got = random.Random(seed), session(), b""
    while len(got) < len(WHOLE):
        wanted = dice.randint(1, 15)
        part = await reading.read(wanted)
        assert len(part) == min(wanted, len(WHOLE) - len(got))
        got += part
    assert got == WHOLE
    with pytest.raises(ConnectionClosedError):
        await reading.read(1)


async def test_a_session_gives_the_rest_of_a_message_when_nothing_is_said():
    reading = session()
    assert await reading.read(0) == b""
    assert await reading.read(2) == b"ab"
    assert await reading.read() == b"cdef"
    assert await reading.read() == b"gh"


class Raw:
    """Gives out at most 7 bytes at a time, and counts."""

    closed = False

    def __init__(self) -> None:
        self._left = WHOLE
        self.reads = 0

    async def read(self, n: int) -> bytes:
        assert n == READ_BYTES
        self.reads += 1
        part, self._left = self._left[:7], self._left[7:]
        return part


async def test_a_connection_is_read_ahead_and_everything_else_is_its_own():
    raw = Raw()
    reading = ReadAhead(raw)
    assert [await reading.read(2), await reading.read(4), await reading.read(9)] == [b"ab", b"cdef", b"g"]
    assert raw.reads == 1
    got = b""
    while part := await reading.read(3):
        got += part
    assert b"abcdefg" + got == WHOLE
    assert reading.closed is False
