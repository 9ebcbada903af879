"""Deadlines: until when what runs in this context may go on, on the runtime's monotonic clock.

Invariant: a deadline inside another is never later than that one. Once its block has ended it binds nobody any more: a
task that the block has left behind has no deadline.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import Final

NO_DEADLINE: Final = float("inf")
"""The time of a deadline that never comes."""


class Deadline:
    """One deadline.

    Attributes:
        until_s: when it is; infinite once its block has ended.
    """

    __slots__ = ("until_s",)

    def __init__(self, until_s: float) -> None:
        self.until_s = until_s


current_deadline: Final[ContextVar[Deadline | None]] = ContextVar("fusion_cluster_deadline", default=None)
"""The deadline of this context; hot paths read it here, all others through `current_deadline_s`."""


def current_deadline_s() -> float:
    """Return until when the code of this context may go on; infinite where nobody has said so."""
    deadline = current_deadline.get()
    return NO_DEADLINE if deadline is None else deadline.until_s


class deadline_at:  # noqa: N801 - used like a function
    """Give the calls of a block a deadline. It ends nothing by itself: it tells the calls how long they may take.

    Args:
        until_s: when, on the runtime's monotonic clock; infinite: the block has the deadline that is in force.
    """

    __slots__ = ("_deadline", "_token", "_until_s")

    _token: Token[Deadline | None]

    def __init__(self, until_s: float) -> None:
        self._until_s = until_s

    def __enter__(self) -> None:
        outer = current_deadline.get()
        until_s = self._until_s
        self._deadline = Deadline(until_s if outer is None or until_s < outer.until_s else outer.until_s)
        self._token = current_deadline.set(self._deadline)

    def __exit__(self, *_: object) -> None:
        self._deadline.until_s = NO_DEADLINE
        try:  # noqa: SIM105 - `suppress` costs more than the rest
            current_deadline.reset(self._token)
        except ValueError:  # a coroutine that nobody finished is closed by the garbage collector, in another context
            pass
