"""`fusion-cluster`: the commands by their names, and what becomes of their errors.

Exit codes: 0 it worked, 1 it failed, 2 it was not asked rightly.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import grpc
import typer

from fusion_cluster.cli import describe, events, execute, reads, serve, status, upgrade_database
from fusion_cluster.errors import CircularDependencyError, FusionError, PermissionDenied, UsageError

OK, FAILED, MISUSED = 0, 1, 2

app = typer.Typer(
    name="fusion-cluster",
    help="Run a fusion-cluster app, and talk to one that runs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

# Every command stands here, one line each.
app.command("serve")(serve.serve)
app.command("status")(status.status)
app.command("call", context_settings=reads.CONTEXT)(reads.call)
app.command("watch", context_settings=reads.CONTEXT)(reads.watch)
app.command("execute", context_settings=reads.CONTEXT)(execute.execute)
app.command("describe")(describe.describe)
app.command("upgrade-database")(upgrade_database.upgrade_database)
app.add_typer(events.events, name="events")  # list, retry, discard


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    Args:
        arguments: instead of those of the process.
    """
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit code.
    """
    try:
        app(args=arguments)
    except SystemExit as end:  # typer's way to end, having said why
        return end.code if isinstance(end.code, int) else OK
    except FusionError as error:
        _complain(error)
        return MISUSED if isinstance(error, UsageError) and not isinstance(error, PermissionDenied) else FAILED
    except Exception as error:
        if not isinstance(error.__cause__, grpc.RpcError):
            raise  # a fault of ours, with its traceback
        _complain(error)
        return FAILED
    return OK


def _complain(error: Exception) -> None:
    text = str(error) or "no message"
    if not isinstance(error, FusionError) or isinstance(error, CircularDependencyError):
        text = f"{type(error).__name__}: {text}"
    elif error.field and error.field not in text:
        text = f"{error.field}: {text}"
    typer.echo(f"error: {text}", err=True)
