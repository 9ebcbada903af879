"""What belongs to one process, and is of no use in a child that is forked from it.

A fork copies event loops, connections and caches, but not the threads that drive them, and whoever writes to a copied
connection disturbs the parent. So what owns such things is told in the child that it is a copy, and refuses from then
on; a look at the process id for each use would cost a system call. `subprocess` and Ray do not come by here: their
children run a program of their own.

gRPC does not work in a child of a process in which it runs, and its own attempt at that (fork support, on by default)
makes one child in four crash. So it is switched off here, before gRPC is imported for the first time.
"""

from __future__ import annotations

import os
import weakref
from typing import Final, Protocol, TypeVar

from fusion_cluster.errors import UsageError

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")


class Forkable(Protocol):
    """What wants to know that it is a copy."""

    def on_forked(self) -> None:
        """This process is a child that was forked off: refuse to be used. Called in the child's only thread."""
        ...


F = TypeVar("F", bound=Forkable)

_FORKABLE: Final[weakref.WeakSet[Forkable]] = weakref.WeakSet()
"""All there is in this process. A fork concerns the process, so this does, too."""


_LOST: Final[list[str]] = []
"""What cannot be used in this process, because the parent used it at the fork."""


def watch_forks(thing: F) -> F:
    """Let `thing.on_forked()` be called in each child that is forked, for as long as something holds the thing."""
    _FORKABLE.add(thing)
    return thing


def copied_by_fork(name: str) -> str:
    """Return what is wrong with using the copy of a thing."""
    return f"{name} was opened before this process was forked: fork first, then open one in each process"


def lose_grpc() -> None:
    """Note that gRPC ran when this process was forked: called by `on_forked` of what uses it."""
    _LOST.append("gRPC")


def require_grpc() -> None:
    """Check that gRPC works in this process.

    Raises:
        UsageError: it was forked from one in which a client, or a gateway, was open.
    """
    if _LOST:
        raise UsageError(
            "gRPC does not work in a process that was forked from one with an open client or gateway: fork before "
            "opening any, or start processes by 'spawn' or 'forkserver'"
        )


def _tell_copies() -> None:
    for thing in list(_FORKABLE):
        thing.on_forked()


os.register_at_fork(after_in_child=_tell_copies)
