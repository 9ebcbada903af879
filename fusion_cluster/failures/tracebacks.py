"""Tracebacks that are kept: they say where an error was raised, and keep nothing alive.

A frame holds its locals and, since Python 3.12, the frames that called it, up to the event loop: a cached error would
keep all that its first caller had at hand. What is kept of a frame is what a traceback shows: file, function, line and
columns, in a frame of the same code that has never run (as tblib does it for tracebacks of other processes).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from opcode import opmap
from types import CodeType, FrameType, FunctionType, TracebackType
from typing import Any, Final

from fusion_cluster.failures.exact_copies import CAUSE, CONTEXT, MEMBERS
from fusion_cluster.failures.exits import TRACEBACK

_MARK: Final = "a frame that has never run"

_NO_OPERATION: Final = bytes((opmap["NOP"], 0))


def _never_run() -> Iterator[str]:
    yield _MARK


def let_go_of_frames(error: BaseException) -> None:
    """Detach the traceback of an error, and of all that it was raised from or with."""
    seen: set[int] = set()
    pending: list[Any] = [error]
    while pending:
        current = pending.pop()
        if not isinstance(current, BaseException) or id(current) in seen:
            continue
        seen.add(id(current))
        TRACEBACK.__set__(current, detached(TRACEBACK.__get__(current)))
        pending += (CAUSE.__get__(current), CONTEXT.__get__(current))
        if issubclass(type(current), BaseExceptionGroup):  # whatever it says of its class
            pending += MEMBERS.__get__(current)


def detached(traceback: TracebackType | None) -> TracebackType | None:
    """Return a traceback that shows the same; its end is the same object where that is detached already."""
    links: list[TracebackType] = []
    while traceback is not None and not _is_detached(traceback):
        links.append(traceback)
        traceback = traceback.tb_next
    for link in reversed(links):
        traceback = TracebackType(traceback, _frame_like(link.tb_frame), link.tb_lasti, link.tb_lineno)
    return traceback


def _is_detached(traceback: TracebackType) -> bool:
    return _MARK in traceback.tb_frame.f_code.co_consts


def _frame_like(frame: FrameType) -> FrameType:
    code = frame.f_code
    function = FunctionType(_code_like(code, code.co_filename), frame.f_globals)
    never_run: FrameType = function().gi_frame
    return never_run


@lru_cache(maxsize=1024)
def _code_like(code: CodeType, filename: str) -> CodeType:
    """Args: `filename` is that of the code, in which codes that are equal may differ."""
    own = _never_run.__code__
    # A tracing interpreter writes a line for each instruction of the table: there must be as many instructions.
    padding = _NO_OPERATION * ((len(code.co_code) - len(own.co_code)) // len(_NO_OPERATION))
    return own.replace(
        co_code=own.co_code + padding,
        co_filename=filename,
        co_name=code.co_name,
        co_qualname=code.co_qualname,
        co_firstlineno=code.co_firstlineno,
        co_linetable=code.co_linetable,
        co_consts=(None, _MARK),
    )
