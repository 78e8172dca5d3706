"""Progress of long work: one line a step, with how long it took."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console


class Steps:
    """Prints each step when it is done; on a terminal also while it runs."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._began_s = time.monotonic()

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """One step. A failure is marked and goes on up."""
        began_s = time.monotonic()
        try:
            with self._console.status(text):
                yield
        except BaseException:
            self._console.print(f"[red]✗[/red] {text}")
            raise
        self._console.print(f"[green]✓[/green] {text} [dim]{time.monotonic() - began_s:.1f} s[/dim]")

    def note(self, text: str, *, style: str = "", soft_wrap: bool = False) -> None:
        """A line that is no step. ``soft_wrap`` leaves breaking it to the terminal, so that it can be copied whole."""
        self._console.print(text, style=style, soft_wrap=soft_wrap)

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._began_s
