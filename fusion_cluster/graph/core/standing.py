"""Whether something can be used: it is neither closed nor the copy, in a forked process, of what the parent uses."""

from __future__ import annotations

import asyncio

from fusion_cluster.errors import UsageError
from fusion_cluster.forks import copied_by_fork


class Standing:
    """What can be closed, and does not survive a fork.

    Args:
        name: what it is, or belongs to, in words, for errors.

    Attributes:
        is_closed: nothing is computed any more.
        is_forked: this is a copy, which nobody keeps up to date.
    """

    def __init__(self, name: str) -> None:
        self.is_closed = False
        self.is_forked = False
        self._name = name

    def require_usable(self) -> None:
        """Check that it is neither closed nor a copy.

        Raises:
            UsageError: it is.
        """
        if self.is_forked:
            raise UsageError(copied_by_fork(self._name))
        if self.is_closed:
            raise UsageError(f"{self._name} is closed")

    def no_output(self) -> BaseException:
        """Return what is raised to those who wait for a computation that was given up."""
        return UsageError(f"{self._name} was closed meanwhile") if self.is_closed else asyncio.CancelledError()
