"""What belongs to one process, and is of no use in a child that is forked from it.

A fork copies event loops, connections and caches, but not the threads that drive them, and whoever writes to a copied
connection disturbs the parent. So what owns such things is told in the child that it is a copy, and refuses from then
on; a look at the process id for each use would cost a system call. `subprocess` and Ray do not come by here: their
children run a program of their own.
"""

from __future__ import annotations

import os
import weakref
from typing import Final, Protocol, TypeVar


class Forkable(Protocol):
    """What wants to know that it is a copy."""

    def on_forked(self) -> None:
        """This process is a child that was forked off: refuse to be used. Called in the child's only thread."""
        ...


F = TypeVar("F", bound=Forkable)

_FORKABLE: Final[weakref.WeakSet[Forkable]] = weakref.WeakSet()
"""All there is in this process. A fork concerns the process, so this does, too."""


def watch_forks(thing: F) -> F:
    """Let `thing.on_forked()` be called in each child that is forked, for as long as something holds the thing."""
    _FORKABLE.add(thing)
    return thing


def copied_by_fork(name: str) -> str:
    """Return what is wrong with using the copy of a thing."""
    return f"{name} was opened before this process was forked: open one after the fork"


def _tell_copies() -> None:
    for thing in list(_FORKABLE):
        thing.on_forked()


os.register_at_fork(after_in_child=_tell_copies)
