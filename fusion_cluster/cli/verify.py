"""`fusion-cluster verify`: compares what an app has cached with what its methods return now."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from fusion_cluster.cli.deadline import within
from fusion_cluster.cli.options import AppName, Json, RayAddress, checked
from fusion_cluster.cli.output import complain, console, progress, say
from fusion_cluster.cli.status import require_ray
from fusion_cluster.quantities import as_finite_timeout
from fusion_cluster.verification import VerificationReport, Violation
from fusion_cluster.verification.options import MAX_RATE

FOUND_VIOLATIONS: Final = 1
"""The exit code if cached values differ."""

MOST_SECONDS: Final = 86_400.0
START_S: Final = 20.0
"""How long it may take to join Ray and to ask for the members."""


def verify(
    seconds: Annotated[
        float, typer.Option(help="For how long values are chosen, in seconds.", min=0, max=MOST_SECONDS)
    ] = 10.0,
    rate: Annotated[
        float,
        typer.Option(
            help="How many values each member compares a second. Each costs a run of a method's body.",
            min=0.001,
            max=MAX_RATE,
        ),
    ] = 50.0,
    bound: Annotated[
        float,
        typer.Option(
            help="How long a cached value may differ before that is a violation, in seconds.",
            callback=checked(as_finite_timeout),
        ),
    ] = 5.0,
    app: AppName = None,
    ray_address: RayAddress = None,
    as_json: Json = False,
) -> int:
    """Compare the cached values of all members with what the methods return now. Exit code 1: some differ."""
    require_ray()
    from fusion_shards.joining import join_ray, stop_ray
    from fusion_shards.launch import attach
    from fusion_shards.ray_clusters import find_app
    from fusion_shards.verifying import GRACE_S, verify_app

    async def ask(name: str) -> tuple[VerificationReport, list[str]]:
        launched = await attach(name)
        return await verify_app(
            launched.configuration, await launched.status(), seconds=seconds, rate=rate, bound_s=bound
        )

    def find_and_ask() -> tuple[VerificationReport, list[str]]:
        address, name = find_app(app, ray_address)
        join_ray(address)
        try:
            return asyncio.run(ask(name))
        finally:
            stop_ray()

    most_s = START_S + seconds + bound + GRACE_S
    out = console()
    with progress(out, f"verifying for {seconds:g} s"):
        report, silent = within(most_s, "verifying", find_and_ask)
    for member in silent:
        complain(f"warning: not verified, because it did not answer: {member}")
    if as_json:
        say(msgspec.json.encode(as_plain(report)).decode())
    else:
        out.print(headline(report))
        if report.methods:
            out.print(figures(report))
        for violation in report.violations:
            out.print(in_full(violation))
        for method, reason in report.excluded.items():
            out.print(Text(f"not verified: {method}: {reason}", style="dim"))
    return FOUND_VIOLATIONS if report.violation_count else 0


def as_plain(report: VerificationReport) -> dict[str, Any]:
    """Return a report as it is printed in JSON: its fields, the figures of the whole, and what to do."""
    plain: dict[str, Any] = msgspec.to_builtins(report)
    plain["violations"] = [{**msgspec.to_builtins(one), "advice": one.advice} for one in report.violations]
    return {
        "compared": report.compared,
        "differ": report.violation_count,
        "consistency": report.consistency,
        **plain,
    }


def headline(report: VerificationReport) -> Text:
    """Return the result of the whole in a line."""
    colour = "red" if report.violation_count else "green"
    return Text.assemble(
        f"{report.app}: ",
        (report.figure, f"bold {colour}"),
        f" ({report.consistency:.6%} consistent), {len(report.members)} members, {report.commands:,} commands followed",
    )


def figures(report: VerificationReport) -> Table:
    """Return the figures as a table with one row for each method."""
    table = Table(box=SIMPLE_HEAD)
    table.add_column("method", style="bold")
    for column in ("compared", "differ", "late"):
        table.add_column(column, justify="right")
    table.add_column("not compared")
    for method in report.methods:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in method.skipped.items())
        table.add_row(
            method.method,
            f"{method.compared:,}",
            Text(f"{method.violations:,}", style="bold red" if method.violations else "green"),
            f"{method.late:,}",
            Text(reasons, style="dim"),
        )
    return table


def in_full(violation: Violation) -> Text:
    """Return a violation with what to do about it."""
    return Text.assemble((str(violation), "red"), f"\n  what to do: {violation.advice}")
