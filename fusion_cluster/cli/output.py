"""Output of the commands: on a terminal, into a pipe or a file, in any encoding.

Invariant: output never ends a command with a traceback. Characters that the encoding lacks are escaped as in JSON (so
JSON stays JSON). A reader that has left ends the command quietly. Any other failure to write is an error.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import sys
from typing import Final, NoReturn, TextIO

from rich.console import Console
from rich.status import Status

PLAIN_WIDTH: Final = 140
"""The width in columns without a terminal."""

_ESCAPED: Final = "fusion_cluster.escaped"

_SHOWN: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}

_OF_OUTPUT: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})


class ReaderGone(Exception):
    """The reader of the output is gone: its pipe is closed at the other end."""


class _Console(Console):
    def on_broken_pipe(self) -> NoReturn:
        raise ReaderGone


def prepare_streams() -> None:
    """Let standard output and standard error take any character, in any encoding."""
    codecs.register_error(_ESCAPED, _escape)
    for stream in (sys.stdout, sys.stderr):
        if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
            reconfigure(errors=_ESCAPED)


def _escape(error: UnicodeError) -> tuple[str, int]:
    """Write characters as JSON does: a backslash, u, and four digits for each 16 bits."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4)), error.end


def console(*, soft_wrap: bool = False) -> Console:
    """Return a console for standard output: as wide as the terminal, or wide enough for tables without a terminal.

    Args:
        soft_wrap: leave long lines to the terminal.
    """
    found = _Console(highlight=False, soft_wrap=soft_wrap)
    return found if found.is_terminal or soft_wrap else _Console(highlight=False, width=PLAIN_WIDTH)


def progress(out: Console, what: str) -> Status:
    """Return a sign of progress for terminals, in characters of their encoding."""
    return out.status(what, spinner="dots" if out.encoding.startswith("utf") else "line")


def say(text: str) -> None:
    """Print a line on standard output."""
    try:
        print(text, flush=True)  # not typer.echo: it takes ASCII as a mistake and writes UTF-8
    except BrokenPipeError:
        raise ReaderGone from None


def complain(text: str) -> None:
    """Print a line on standard error. If that cannot be written either, the line is lost.

    Control characters, which others may have put into an error, are shown and do not control the terminal.
    """
    with contextlib.suppress(OSError, ValueError):
        print(text.translate(_SHOWN), file=sys.stderr, flush=True)


def flush_output() -> None:
    """Write what is left in the buffer.

    Raises:
        ReaderGone: the reader of the output is gone.
        OSError: the output cannot be written.
    """
    if sys.stdout is None or sys.stdout.closed:
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise ReaderGone from None


def reason_of(error: OSError) -> str:
    """Return the text of an error of the operating system for people."""
    if error.filename is None and error.errno in _OF_OUTPUT:
        return f"the output cannot be written: {error.strerror}"
    return f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"


def discard_output() -> None:
    """Discard what cannot be flushed, so that Python's exit does not complain of it."""
    for stream in (sys.stdout, sys.stderr):
        if not _can_flush(stream):
            with contextlib.suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)


def _can_flush(stream: TextIO | None) -> bool:
    if stream is None or stream.closed:
        return True
    try:
        stream.flush()
    except OSError:
        return False
    return True
