"""Notifies objects that belong to one process when they are copied into a child by a fork.

A fork copies event loops, connections and caches, but not the threads that drive them. A child that writes to a copied
connection disturbs the parent. So the owners of such things are notified in the child that they are copies, and refuse
to work from then on. (A check of the process id at each use would cost a system call.) Children of `subprocess` and Ray
run a program of their own and are not concerned.

gRPC does not work in a child of a process in which it runs. Its own attempt at that (fork support, on by default) makes
one child in four crash. So fork support is switched off here, before gRPC is imported for the first time.
"""

from __future__ import annotations

import os
import weakref
from typing import Final, Protocol, TypeVar

from fusion_cluster.errors import UsageError

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")


class Forkable(Protocol):
    """An object that must know when it is a copy."""

    def on_forked(self) -> None:
        """This process is a forked child: refuse to be used from now on. Called in the child's only thread."""
        ...


F = TypeVar("F", bound=Forkable)

_FORKABLE: Final[weakref.WeakSet[Forkable]] = weakref.WeakSet()
"""All forkable objects of this process. A fork concerns the whole process, and so does this set."""


_LOST: Final[list[str]] = []
"""Libraries that cannot be used in this process, because the parent used them at the fork."""


def watch_forks(thing: F) -> F:
    """Call `thing.on_forked()` in each forked child, for as long as something holds the thing."""
    _FORKABLE.add(thing)
    return thing


def copied_by_fork(name: str) -> str:
    """Return the message for the use of a copy."""
    return f"{name} was opened before this process was forked: fork first, then open one in each process"


def lose_grpc() -> None:
    """Note that gRPC ran when this process was forked. Users of gRPC call it from `on_forked`."""
    _LOST.append("gRPC")


def require_grpc() -> None:
    """Check that gRPC works in this process.

    Raises:
        UsageError: it was forked from a process in which a client or a gateway was open.
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
