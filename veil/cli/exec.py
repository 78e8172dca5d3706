"""`veil exec`: a command in a container, with this terminal's input, output and size."""

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from veil.cli.connection import Connection, namespace_option

if TYPE_CHECKING:
    from veil.client.execs import Channels

PIECE_BYTES = 32 * 1024


@click.command(name="exec")
@click.argument("instance")
@click.argument("command", nargs=-1, required=True, metavar="-- COMMAND...")
@click.option("-i", "--stdin", is_flag=True, help="give it the standard input")
@click.option("-t", "--tty", is_flag=True, help="give it a terminal")
@click.option("-c", "--container", default="", help="which container, when there are several")
@namespace_option
@click.pass_obj
def exec(
    connection: Connection, instance: str, command: tuple[str, ...], stdin: bool, tty: bool, container: str, namespace: str
) -> int:
    """Run a command in a container of INSTANCE, and end as it ends. `-it` gives it this terminal.

    The node that is asked has to be a home node of the namespace.
    """
    if tty and not (stdin and sys.stdin.isatty()):
        click.echo("no terminal: the standard input is none, or -i is missing", err=True)
        tty = False
    where = connection.namespace(namespace)
    return asyncio.run(_speak(connection, instance, where, command, container=container, stdin=stdin, tty=tty))


async def _speak(
    connection: Connection, instance: str, where: str, words: tuple[str, ...], *, container: str, stdin: bool, tty: bool
) -> int:
    from veil.client.execs import open_channels
    from veil.client.kinds import INSTANCES

    config = connection.config()
    async with open_channels(config, INSTANCES, instance, where, words, container=container, stdin=stdin, tty=tty) as channels:
        with _raw_terminal() if tty else contextlib.nullcontext():
            sending = asyncio.create_task(_send(channels, stdin=stdin, tty=tty))
            try:
                async for stream, data in channels.output():
                    into = sys.stderr.buffer if stream == 2 else sys.stdout.buffer
                    into.write(data)
                    into.flush()
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
        return channels.exit_code or 0


async def _send(channels: "Channels", *, stdin: bool, tty: bool) -> None:
    """Sizes as they change, and the standard input to its end."""
    loop = asyncio.get_running_loop()
    given: asyncio.Queue[bytes | None] = asyncio.Queue()
    if tty:
        loop.add_signal_handler(signal.SIGWINCH, given.put_nowait, None)
        given.put_nowait(None)
    if stdin:
        threading.Thread(target=_read, args=(loop, given), daemon=True).start()
    while stdin or tty:
        data = await given.get()
        if data is None:
            await channels.resize(*os.get_terminal_size(sys.stdin.fileno()))
        elif data:
            await channels.write(data)
        else:
            await channels.end_input()


def _read(loop: asyncio.AbstractEventLoop, given: "asyncio.Queue[bytes | None]") -> None:
    """In a thread of its own: the standard input may be a file, which no event loop waits for. Empty at the end."""
    data = b" "
    while data:
        data = os.read(sys.stdin.fileno(), PIECE_BYTES)
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(given.put_nowait, data)


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    """Every key goes to the command, also those that would end this one."""
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
