"""What user code raises that is not an `Exception`: `SystemExit`, `KeyboardInterrupt`, `GeneratorExit`, own classes.

A process that serves others must not end because one body says so. So wherever code of users runs, such a thing is
turned into a `BodyExited` that names it, for whoever has called. Not the code's own doing, and let through, is what was
raised in the midst of it: by a signal (Ctrl-C, SIGTERM), whose handler Python runs between any two instructions of the
main thread, or by whoever closes a coroutine that is suspended.
"""

from __future__ import annotations

import dis
import signal
import threading
from collections import deque
from collections.abc import Iterator
from functools import partial
from types import CodeType, TracebackType
from typing import Any, Final

from fusion_cluster.errors import BodyCancelled, BodyExited

MAX_TEXT_CHARS: Final = 500
"""Of what was raised, in the message."""

_RAISING: Final = frozenset({"RAISE_VARARGS", "RERAISE"})
_WAITING: Final = frozenset({"YIELD_VALUE", "SEND", "END_SEND"})
"""Where a coroutine stands that waits: what comes from there was thrown in, or comes from what it waits for, never from
a signal."""

TRACEBACK: Final[Any] = BaseException.__dict__["__traceback__"]
"""The traceback of any exception, whatever its class has made of the attribute."""


def body_exited(name: str, error: BaseException) -> BodyExited:
    """Return what the callers of user code get in place of something that is not an `Exception`.

    Args:
        name: of the code, for the message: "Products.price".
        error: what it has raised; as it was caught.

    Raises:
        BaseException: `error` itself, if it is not the code's own doing.
    """
    reraise_outside(error)
    return as_body_exited(name, error)


def as_body_exited(name: str, error: BaseException) -> BodyExited:
    """Return the same, without regard to who has raised it."""
    exited = BodyExited(
        f"{name} raised {in_words(error)}, which would end more than this call: raise an Exception instead"
    )
    exited.__cause__ = error
    return exited.with_traceback(TRACEBACK.__get__(error))


def body_cancelled(name: str, error: BaseException | None = None) -> BodyCancelled:
    """Return what callers get in place of a `CancelledError` of the code's own.

    Args:
        name: of the code, for the message: "Products.price".
        error: it, where it is known.
    """
    cancelled = BodyCancelled(
        f"{name} raised CancelledError though nobody had cancelled it, as it does when it awaits something that was "
        "cancelled: catch that, and raise an Exception instead"
    )
    cancelled.__cause__ = error
    return cancelled if error is None else cancelled.with_traceback(TRACEBACK.__get__(error))


def reraise_outside(error: BaseException) -> None:
    """Let `error` go on if it is not the code's own doing: called first where all that user code raises is caught.

    Raises:
        BaseException: `error`.
    """
    if not isinstance(error, Exception) and is_from_outside(error):
        raise error


def is_from_outside(error: BaseException) -> bool:
    """Tell whether a signal, or whoever closes a coroutine, has raised `error` in the midst of the code."""
    if isinstance(error, GeneratorExit):
        return _last_instruction(error) in _WAITING | {"RESUME"}
    if threading.current_thread() is not threading.main_thread():
        return False  # signals are handled in the main thread
    if isinstance(error, KeyboardInterrupt) and _last_instruction(error) not in _RAISING | _WAITING:
        return True  # Python's own handler is not a frame
    handlers = set(_signal_handlers())
    return any(frame.tb_frame.f_code in handlers for frame in _frames(error))


def in_words(error: BaseException) -> str:
    """Return the class and the text of an exception: "SystemExit: 3"."""
    try:
        text = str(error)
    except BaseException as raised:
        text = "" if not is_from_outside(raised) else "…"
    kind = type(error).__qualname__.rpartition(".<locals>.")[2]
    return f"{kind}: {text[:MAX_TEXT_CHARS]}" if text else kind


def _frames(error: BaseException) -> Iterator[TracebackType]:
    traceback: TracebackType | None = TRACEBACK.__get__(error)
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _last_instruction(error: BaseException) -> str:
    """Return the name of the instruction that was run when `error` was raised; "" where it has no traceback."""
    last = next(iter(deque(_frames(error), maxlen=1)), None)
    if last is None or last.tb_lasti < 0:
        return ""
    return dis.opname[last.tb_frame.f_code.co_code[last.tb_lasti]]


def _signal_handlers() -> Iterator[CodeType]:
    """Go through the code of the handlers of signals that are written in Python."""
    for number in signal.valid_signals():
        handler: Any = signal.getsignal(number)
        while isinstance(handler, partial):
            handler = handler.func
        function = getattr(handler, "__func__", handler)
        call: Any = vars(type(function)).get("__call__")
        code = getattr(function, "__code__", None) or getattr(call, "__code__", None)
        if isinstance(code, CodeType):
            yield code
