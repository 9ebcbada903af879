"""`fusion-cluster`: registers the commands by their names, and reports their errors.

Exit codes: 0 success, 1 failure, 2 wrong usage, 130 Ctrl-C, 141 the reader of the output is gone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, Final, Protocol, runtime_checkable

import grpc
import typer

from fusion_cluster.cli import describe, events, execute, reads, serve, status, upgrade_database, verify
from fusion_cluster.cli.deadline import has_unfinished_work
from fusion_cluster.cli.options import check_text
from fusion_cluster.cli.output import (
    ReaderGone,
    complain,
    discard_output,
    flush_output,
    prepare_streams,
    reason_of,
    say,
)
from fusion_cluster.errors import CircularDependencyError, FusionError, PermissionDenied, UsageError

OK: Final = 0
FAILED: Final = 1
MISUSED: Final = 2
INTERRUPTED: Final = 130
"""As shells report a program that Ctrl-C has ended."""
READER_GONE: Final = 141
"""As shells report a program that has written into a pipe without a reader (SIGPIPE)."""

app = typer.Typer(
    name="fusion-cluster",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        say(f"fusion-cluster {version('fusion-cluster')}")
        raise typer.Exit


@app.callback()
def _options_of_all(
    show_version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Run a fusion-cluster app, and talk to one that runs."""


# Every command stands here, one line each.
app.command("serve")(serve.serve)
app.command("status")(status.status)
app.command("call", context_settings=reads.CONTEXT)(reads.call)
app.command("watch", context_settings=reads.CONTEXT)(reads.watch)
app.command("execute", context_settings=reads.CONTEXT)(execute.execute)
app.command("describe")(describe.describe)
app.command("verify")(verify.verify)
app.command("upgrade-database")(upgrade_database.upgrade_database)
app.add_typer(events.events, name="events")  # list, retry, discard


@runtime_checkable
class _Misuse(Protocol):
    """The error that typer raises for a wrong command line; its class has no public name."""

    exit_code: int

    def format_message(self) -> str: ...


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    Args:
        arguments: used instead of the arguments of the process.
    """
    prepare_streams()
    code = run(arguments)
    discard_output()
    if has_unfinished_work():
        os._exit(code)  # a normal exit would wait for it
    sys.exit(code)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit code.
    """
    words = sys.argv[1:] if arguments is None else arguments
    try:
        for word in words:
            check_text("the command line's", word, word)
        code: object = app(args=words, standalone_mode=False)
        flush_output()
    except SystemExit as end:
        code = end.code
    except KeyboardInterrupt:
        return INTERRUPTED
    except ReaderGone:
        return READER_GONE
    except typer.Abort:
        complain("aborted")
        return FAILED
    except OSError as error:
        complain(f"error: {reason_of(error)}")
        return FAILED
    except FusionError as error:
        _complain(error)
        return MISUSED if isinstance(error, UsageError) and not isinstance(error, PermissionDenied) else FAILED
    except Exception as error:
        if isinstance(error, _Misuse):
            _complain_of_misuse(error)
            return error.exit_code
        if not isinstance(error.__cause__, grpc.RpcError):
            raise  # our own bug: show its traceback
        _complain(error)
        return FAILED
    return code if isinstance(code, int) else OK


def _complain(error: Exception) -> None:
    text = str(error) or "no message"
    if not isinstance(error, FusionError) or isinstance(error, CircularDependencyError):
        text = f"{type(error).__name__}: {text}"
    elif error.field and error.field not in text:
        text = f"{error.field}: {text}"
    complain("\n".join([f"error: {text}", *getattr(error, "__notes__", ())]))


def _complain_of_misuse(error: _Misuse) -> None:
    """Print what is wrong in one line. Without any arguments, typer has shown the help already."""
    text = " ".join(error.format_message().split())
    if type(error).__name__ == "NoArgsIsHelpError":
        if text:
            complain(error.format_message())
        return
    context: typer.Context | None = getattr(error, "ctx", None)
    where = f" (see {context.command_path} --help)" if context is not None else ""
    complain(f"error: {text}{where}")
