"""What an invalidation goes back to."""

from __future__ import annotations

import sys
from types import CodeType
from typing import Final

_NOT_USERS: Final = ("fusion_cluster.", "fusion_router.", "fusion_shards.", "asyncio.")


class Cause:
    """Why something was invalidated, in words for people.

    Attributes:
        kind: "call", "command", "remote", "expired", "evicted", ...
        what: more about it: a command's name, a peer, a place in the code; "" if there is nothing to say.
    """

    __slots__ = ("_code", "_line", "_what", "kind")

    def __init__(self, kind: str, what: str = "", code: CodeType | None = None, line: int = 0) -> None:
        self.kind = kind
        self._what = what
        self._code = code
        self._line = line

    @property
    def what(self) -> str:
        """See the class."""
        if self._code is None:
            return self._what
        place = f"{self._code.co_qualname} ({self._code.co_filename}:{self._line})"
        return f"{self._what} in {place}" if self._what else place

    def __str__(self) -> str:
        what = self.what
        return f"{self.kind}: {what}" if what else self.kind

    def __repr__(self) -> str:
        return f"<Cause {self}>"


CANCELLED: Final = Cause("cancelled", "the computation ended without an output")
CLOSED: Final = Cause("closed", "the graph was closed")
EVICTED: Final = Cause("evicted", "the registry is full")
EXPIRED: Final = Cause("expired", "its time was over")
LOST_VALUE: Final = Cause("lost", "its value, which was paged out, could not be computed again")
MOVED: Final = Cause("moved", "another shard owns its key")
REPLACED: Final = Cause("replaced", "a value was set by hand")
UNKNOWN: Final = Cause("unknown")


def call_site(kind: str = "call", what: str = "") -> Cause:
    """Return where in the user's code the call is that has led here: the nearest frame outside of the library."""
    frame = sys._getframe(2)
    while True:
        module = frame.f_globals.get("__name__", "")
        if not module.startswith(_NOT_USERS):
            return Cause(kind, what, frame.f_code, frame.f_lineno)
        outer = frame.f_back
        # What lies beyond the event loop has not led here.
        if outer is None or module.startswith("asyncio."):
            return UNKNOWN
        frame = outer
