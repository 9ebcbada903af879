"""What an invalidation goes back to, and where in the user's code that was.

A cause is made for every invalidation that somebody asks for, and kept as long as the graph's history remembers it. So
it is small and formats itself only when it is looked at. It holds code objects and short texts: no frame, no traceback,
no service, no argument.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextvars import ContextVar
from functools import lru_cache
from types import CodeType, FrameType
from typing import Final, NamedTuple, TypeVar

from msgspec import Struct

T = TypeVar("T")


class Place(NamedTuple):
    """A line of the user's code.

    Attributes:
        file: as Python knows it.
        line: its number.
        function: "Products.set_price".
    """

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{_shortest(self.file)}:{self.line} in {self.function}"


class CommandRun(NamedTuple):
    """One run of a command.

    Attributes:
        name: "Products.set_price".
        arguments: as they would be written, abridged.
        command_id: names the run; a retry has the same.
        principal: on whose behalf, abridged; "": nobody is known.
        traceparent: the trace that it belongs to, as W3C Trace Context has it; "": none is known.
    """

    name: str
    arguments: str
    command_id: str
    principal: str = ""
    traceparent: str = ""

    def __str__(self) -> str:
        principal = f" for {self.principal}" if self.principal else ""
        trace = f", trace {self.traceparent}" if self.traceparent else ""
        return f"command {self.name}({self.arguments}){principal} (id {self.command_id}{trace})"


class Cause(Struct, frozen=True, eq=False, gc=False):
    """What an invalidation goes back to.

    Attributes:
        kind: in one word what it is:

            - "call": somebody has called `.invalidate()`; "command": a command has;
            - "state": a mutable or computed state was set, or invalidated, by hand; "retry": one tries again;
            - "expired": its time was over; "evicted": it was given up to keep a bound of the graph;
            - "cancelled", "lost": its computation ended without an output; its value cannot be had again;
            - "remote": its owner, or another process, has said so; "disconnected", "lease": the owner cannot be relied
              upon to say so any more; "moved": it has another owner now;
            - "missed": what has changed cannot be told any more;
            - "replaced", "closed", "unknown".
        subject: a phrase that says more; or the command.
    """

    kind: str
    subject: str | CommandRun = ""
    _code: CodeType | None = None
    _instruction: int = -1

    @property
    def what(self) -> str:
        """What has happened, without the place."""
        return str(self.subject) or self.kind

    @property
    def command(self) -> CommandRun | None:
        """The command, if it was one."""
        return self.subject if isinstance(self.subject, CommandRun) else None

    @property
    def place(self) -> Place | None:
        """Where in the user's code, if it was there."""
        code = self._code
        return None if code is None else Place(code.co_filename, self._line(code), code.co_qualname)

    def __str__(self) -> str:
        place = self.place
        return self.what if place is None else f"{self.what} at {place}"

    def __repr__(self) -> str:
        return f"<Cause {self.kind}: {self}>"

    def _line(self, code: CodeType) -> int:
        for start, end, line in code.co_lines():
            if start <= self._instruction < end and line is not None:
                return line
        return code.co_firstlineno


VARIES: Final = Cause("varies", "its result depends on who asks, and is kept for each principal from now on")
CLOSED: Final = Cause("closed", "the graph was closed")
EVICTED: Final = "evicted"
"""Kind of the causes that `evicted_by` gives."""

LONG_OLD: Final = Cause("unknown", "it was given what has been out of date for longer than is remembered")
LOST_VALUE: Final = Cause("lost", "its value, which was paged out, could not be computed again")
OVERTAKEN: Final = Cause("overtaken", "it was out of date before it was computed")
MISSED: Final = Cause("missed", "changes may have been missed: the operation log was not read for too long")
MOVED: Final = Cause("moved", "another shard owns its key")
REPLACED: Final = Cause("replaced", "a value was set by hand")
UNSETTLED: Final = Cause("unsettled", "it could not be told whether it was fresh")
UNKNOWN: Final = Cause("unknown", "nobody has said why")

CANCELLED: Final = Cause("cancelled", "its computation was cancelled from within")
ABANDONED: Final = Cause("cancelled", "its computation was cancelled, as nobody waited for it any more")
LOOP_GONE: Final = Cause("cancelled", "the event loop of the graph was closed")

CALL: Final = "a call of invalidate()"


@lru_cache(64)
def evicted_by(bound: str, limit: float) -> Cause:
    """Return what an eviction goes back to: the bound that had to be kept."""
    return Cause(EVICTED, f"it was evicted to keep the graph's bound {bound}={limit:,.0f}")


# -- where in the user's code ------------------------------------------------------------------------------------------
_USERS: Final = 0
_OURS: Final = 1
_LOOP: Final = 2

_OUR_PACKAGES: Final = ("fusion_cluster.", "fusion_router.", "fusion_shards.")
_MAX_FILES: Final = 4096

_whose: Final[dict[str, int]] = {}
"""File → whose code is in it; at most `_MAX_FILES`, then anew."""

_handed_over: Final[ContextVar[Cause | None]] = ContextVar("fusion_cluster_handed_over", default=None)
"""Where the call was made that another thread runs in this context."""


def call_site(kind: str = "call", subject: str | CommandRun = CALL) -> Cause:
    """Return where in the user's code the call is that has led here: in the nearest frame outside of the library.

    To be called by what the user has called, or deeper.
    """
    frame = sys._getframe(2)
    while True:
        code = frame.f_code
        whose = _whose.get(code.co_filename)
        if whose is None:
            whose = _classify(frame)
        if whose == _USERS:
            return Cause(kind, subject, code, frame.f_lasti)
        outer = frame.f_back
        # What lies beyond the event loop has not led here.
        if outer is None or whose == _LOOP:
            site = _handed_over.get()
            return Cause(kind, subject) if site is None else Cause(kind, subject, site._code, site._instruction)
        frame = outer


def from_here(function: Callable[[], T]) -> Callable[[], T]:
    """Return `function` for another thread to call: causes that arise in it know the place of the call of now."""
    site = call_site()

    def handed_over() -> T:
        token = _handed_over.set(site)
        try:
            return function()
        finally:
            _handed_over.reset(token)

    return handed_over


def _classify(frame: FrameType) -> int:
    """Tell whose code a frame runs, and remember it for the file, where there is one."""
    module = frame.f_globals.get("__name__", "")
    whose = _USERS
    if isinstance(module, str):
        whose = _OURS if module.startswith(_OUR_PACKAGES) else _LOOP if module.startswith("asyncio.") else _USERS
    file = frame.f_code.co_filename
    if not file.startswith("<"):  # "<string>" is many modules
        if len(_whose) >= _MAX_FILES:
            _whose.clear()
        _whose[file] = whose
    return whose


def _shortest(file: str) -> str:
    """Return a path relative to the current folder, where it is in there."""
    try:
        return _within(os.getcwd(), file)
    except (OSError, ValueError):  # the folder is gone; another drive
        return file


@lru_cache(256)
def _within(folder: str, file: str) -> str:
    relative = os.path.relpath(file, folder)
    return file if file.startswith("<") or relative.startswith(os.pardir) else relative
