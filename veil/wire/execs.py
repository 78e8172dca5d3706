"""A command in a container, spoken with from a home node: home node → winner, a sequence of requests."""

from typing import Annotated

from msgspec import Meta

from veil.wire.codec import Message
from veil.wire.objects import Bytes16, Bytes32, UInt
from veil.wire.rounds import Index

EXEC_CHUNK_MAX_BYTES = 64 * 1024
COMMAND_MAX_WORDS = 256
WORD_MAX_CHARS = 16 * 1024
ERROR_MAX_CHARS = 500

Cells = Annotated[int, Meta(ge=0, le=10_000)]


class ExecOpen(Message, frozen=True, tag="veil/exec-open.1"):
    """Begin. ``container`` may be empty for the only one."""

    session: Bytes16
    """Chosen by the asker: names this session in what follows."""
    object_id: Bytes32
    generation: UInt
    """The template's, as in the replica's leaf."""
    replica: Index
    command: Annotated[
        tuple[Annotated[str, Meta(max_length=WORD_MAX_CHARS)], ...], Meta(min_length=1, max_length=COMMAND_MAX_WORDS)
    ]
    container: Annotated[str, Meta(max_length=63)] = ""
    tty: bool = False


class ExecInput(Message, frozen=True, tag="veil/exec-input.1"):
    """Input, its end, a terminal's new size (0 for none), or the end of the session. Answered when the command has taken it."""

    session: Bytes16
    data: Annotated[bytes, Meta(max_length=EXEC_CHUNK_MAX_BYTES)] = b""
    end: bool = False
    columns: Cells = 0
    rows: Cells = 0
    close: bool = False


class ExecNext(Message, frozen=True, tag="veil/exec-next.1"):
    """More output, waited for."""

    session: Bytes16


class ExecOutput(Message, frozen=True, tag="veil/exec-output.1"):
    """Winner → home node, in answer to each of the others: the next output, empty while there is none; at the end the exit code.

    ``error`` is the class of an error of the house, with what it says: the mesh carries no errors.
    """

    stream: Annotated[int, Meta(ge=0, le=2)] = 0
    data: Annotated[bytes, Meta(max_length=EXEC_CHUNK_MAX_BYTES)] = b""
    end: bool = False
    exit_code: Annotated[int, Meta(ge=0, lt=2**32)] = 0
    error: Annotated[str, Meta(max_length=64)] = ""
    message: Annotated[str, Meta(max_length=ERROR_MAX_CHARS)] = ""
    hint: Annotated[str, Meta(max_length=ERROR_MAX_CHARS)] = ""
