"""How far the loading is: a bar on a terminal, a line per table without one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class LoadProgress(Protocol):
    """Is told of the rows as they are written."""

    def start(self, table: str, row_count: int) -> None:
        """A table begins that will have so many rows."""

    def advance(self, row_count: int) -> None:
        """So many more rows are written."""


class NoProgress:
    """Tells nobody."""

    def start(self, table: str, row_count: int) -> None:
        """Nothing."""

    def advance(self, row_count: int) -> None:
        """Nothing."""


class BarProgress:
    """One bar per table."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._current = None if not bars.task_ids else bars.task_ids[-1]

    def start(self, table: str, row_count: int) -> None:
        """Begin a bar."""
        self._current = self._bars.add_task(table, total=row_count)

    def advance(self, row_count: int) -> None:
        """Move the bar."""
        if self._current is not None:
            self._bars.advance(self._current, row_count)


class LineProgress:
    """One plain line per table."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def start(self, table: str, row_count: int) -> None:
        """Print the line."""
        self._console.print(f"loading {row_count:,} {table}", highlight=False)

    def advance(self, row_count: int) -> None:
        """Nothing."""


@contextmanager
def load_progress(console: Console) -> Iterator[LoadProgress]:
    """The progress that fits the console."""
    if not console.is_terminal:
        yield LineProgress(console)
        return
    columns = (TextColumn("{task.description:>10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        yield BarProgress(bars)
