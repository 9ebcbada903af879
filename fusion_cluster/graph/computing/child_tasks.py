"""Tasks that bodies make: one that exits ends no event loop.

A task that ends with `SystemExit` or `KeyboardInterrupt` ends its event loop too, as `asyncio` lets these through. So
what a body gives to `create_task` is wrapped: the task ends with `BodyExited`, and whoever awaits it is given that.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import Any

from fusion_cluster.failures.exits import body_exited
from fusion_cluster.graph.core.context import running_name


def guarded(coroutine: Any) -> Any:
    """Return what a task is to run in place of a coroutine: the coroutine itself where no body has made the task."""
    name = running_name()
    return coroutine if name is None else _Guarded(name, coroutine)


class _Guarded(Coroutine[Any, Any, Any]):
    """A coroutine that raises `BodyExited` where another one exits, and is that one in all else."""

    __slots__ = ("_coroutine", "_name")

    def __init__(self, name: str, coroutine: Any) -> None:
        self._name = name
        self._coroutine = coroutine

    def send(self, value: Any) -> Any:
        try:
            return self._coroutine.send(value)
        except (SystemExit, KeyboardInterrupt) as error:
            raise body_exited(self._name, error) from error

    def throw(self, *raised: Any) -> Any:
        try:
            return self._coroutine.throw(*raised)
        except (SystemExit, KeyboardInterrupt) as error:
            raise body_exited(self._name, error) from error

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield from self._coroutine.__await__())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coroutine, name)  # its name and its frame, for those who look at the task
