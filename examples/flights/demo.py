"""`python -m examples.flights.demo`: a day of real flights through shards and a gateway, live.

Loads the flights, starts Ray with shards and a gateway, replays a day through the gateway while readers read, lets a
second process read in between, and in the end compares every board and total with SQL. Exit code 0 if all are right.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from rich.console import Console
from rich.live import Live

from examples.flights.cluster import running_cluster
from examples.flights.dataset.folder import DEFAULT_DAY, cache_folder
from examples.flights.dataset.loading import load_flights
from examples.flights.dataset.progress import load_progress
from examples.flights.dataset.working_copy import make_working_copy
from examples.flights.replay.events import FlightEvent, events_of
from examples.flights.replay.execution import through_client
from examples.flights.replay.replay import Replay
from examples.flights.show.audience import Audience
from examples.flights.show.lines import line_of
from examples.flights.show.observer import Observer
from examples.flights.show.outside import read_outside
from examples.flights.show.snapshot import example_command
from examples.flights.show.summary import Summary, summary_view
from examples.flights.show.traffic import TrafficMeter
from examples.flights.show.view import screen
from examples.flights.truth import Truth, compare_day
from examples.flights.values import Totals
from fusion_cluster.addresses import MAX_PORT
from fusion_cluster.client import Client, connect
from fusion_cluster.errors import FusionError, InvalidArgument
from fusion_cluster.quantities import as_count, as_finite_timeout
from fusion_shards.launch import LaunchedApp

T = TypeVar("T")

DEFAULT_SECONDS = 120.0
SCREEN_PERIOD_S = 0.25
LINE_PERIOD_S = 2.0
MEMBERS_PERIOD_S = 1.0


@dataclass(frozen=True)
class Options:
    """What was asked for.

    Attributes:
        seconds: how long the replay is to take; None: two minutes, and then serve until Ctrl-C.
        shards: how many shards.
        port: of the gateway.
        day: the day to replay.
        airport: whose departures board to show.
    """

    seconds: float | None
    shards: int
    port: int
    day: date
    airport: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit code."""
    options = parse(arguments)
    console = Console(highlight=False)
    try:
        return asyncio.run(demonstrate(options, console))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    except FusionError as error:
        console.print(f"error: {error.message}", style="red", markup=False)
        return 1


def parse(arguments: Sequence[str] | None = None) -> Options:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m examples.flights.demo", description=__doc__)
    parser.add_argument("--seconds", type=_seconds, help="replay in so many seconds and end; else 120 and serve on")
    parser.add_argument("--shards", type=_shards, default=2, help="how many shards (2)")
    parser.add_argument("--port", type=_port, default=50051, help="port of the gateway (50051); 0: any free one")
    parser.add_argument("--day", type=date.fromisoformat, default=DEFAULT_DAY, help=f"of 2013 ({DEFAULT_DAY})")
    parser.add_argument("--airport", choices=("EWR", "JFK", "LGA"), default="JFK", help="whose board to show (JFK)")
    return Options(**vars(parser.parse_args(arguments)))


def _seconds(text: str) -> float:
    return _checked(lambda: as_finite_timeout("it", float(text)))


def _shards(text: str) -> int:
    return _checked(lambda: as_count("it", int(text), most=64))


def _port(text: str) -> int:
    return _checked(lambda: as_count("it", int(text), least=0, most=MAX_PORT))


def _checked(read: Callable[[], T]) -> T:
    try:
        return read()
    except InvalidArgument as error:
        raise argparse.ArgumentTypeError(error.message) from error
    except ValueError as error:
        raise argparse.ArgumentTypeError("it must be a number") from error


async def demonstrate(options: Options, console: Console) -> int:
    """Prepare, run, compare; returns the exit code."""
    with load_progress(console) as progress:
        complete = await asyncio.to_thread(load_flights, cache_folder(), progress)
    database = await asyncio.to_thread(make_working_copy, complete, options.day)
    events = await asyncio.to_thread(events_of, complete, options.day)
    console.print(f"{len(events):,} departures, arrivals and cancellations of {options.day} to replay")
    console.print(f"starting Ray with {options.shards} shards and a gateway", style="dim")
    async with running_cluster(database, shards=options.shards, port=options.port) as launched:
        _end_on_sigterm()
        (address,) = launched.gateway_addresses
        console.print(f"serving at [bold green]{address}[/]")
        async with connect(address, timeout_s=30.0) as client:
            show = Show(options, console, launched, client, events)
            summary = await show.run(complete, database)
            console.print(summary_view(summary), soft_wrap=True)
            if options.seconds is None and summary.is_right:
                console.print(f"serving on at [bold green]{address}[/]: Ctrl-C ends; try")
                console.print(f"  {example_command(show.observer.snapshot)}", soft_wrap=True)
                with contextlib.suppress(asyncio.CancelledError):  # Ctrl-C
                    await asyncio.Event().wait()
    return 0 if summary.is_right else 1


def _end_on_sigterm() -> None:
    """Set after Ray has started, which sets a handler of its own."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


def _first(errors: ExceptionGroup[Exception]) -> Exception:
    """What went wrong first, out of however many groups it came in."""
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, ExceptionGroup) else error


class Show:
    """The replay with all that goes on beside it.

    Args:
        options: what was asked for.
        console: where to show it.
        launched: the cluster.
        client: a connection to its gateway.
        events: what to replay.
    """

    def __init__(
        self, options: Options, console: Console, launched: LaunchedApp, client: Client, events: Sequence[FlightEvent]
    ) -> None:
        self._options = options
        self._console = console
        self._client = client
        self._meter = TrafficMeter()
        self._half_time = asyncio.Event()
        self._replay = Replay(
            events,
            self._meter.timed(through_client(client)),
            on_confirmed=self._on_confirmed,
        )
        progress = self._replay.progress
        self.observer = Observer(
            client,
            progress,
            self._meter,
            launched.status,
            day=options.day,
            airport=options.airport,
            address=client.address,
        )
        flight_ids = sorted({event.flight_id for event in events})
        self._audience = Audience(client, options.day, flight_ids, lambda: progress.minute, self._meter)

    async def run(self, complete: Path, database: Path) -> Summary:
        """Replay and show, then compare.

        Args:
            complete: the database with all that is known.
            database: the one that is served.
        """
        begin_s = time.perf_counter()
        await self.observer.look()
        start_s = time.perf_counter()
        self._console.print(f"the first boards and totals of {self._options.day} in {start_s - begin_s:.1f} s")
        seconds = (self._options.seconds or DEFAULT_SECONDS) - (start_s - begin_s)
        try:
            async with asyncio.TaskGroup() as group:
                beside: list[Coroutine[Any, Any, None]] = [self._audience.run(), self._watch_members(), self._show()]
                tasks = [group.create_task(each) for each in beside]
                half_time = group.create_task(self._read_outside_at_half_time())
                await self._replay.run(max(seconds, 0.0))
                took_s = time.perf_counter() - start_s
                await half_time
                for task in tasks:
                    task.cancel()
        except ExceptionGroup as errors:
            raise _first(errors) from None
        return await self._summary(complete, database, took_s)

    def _on_confirmed(self, _event: FlightEvent) -> None:
        progress = self._replay.progress
        if progress.confirmed * 2 >= progress.total:
            self._half_time.set()

    async def _watch_members(self) -> None:
        while True:
            await self.observer.look_at_members()
            await asyncio.sleep(MEMBERS_PERIOD_S)

    async def _show(self) -> None:
        if not self._console.is_terminal:
            while True:
                await asyncio.sleep(LINE_PERIOD_S)
                self._console.print(line_of(await self.observer.look()), soft_wrap=True)
        with Live(screen(self.observer.snapshot), console=self._console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(screen(await self.observer.look()), refresh=True)
                await asyncio.sleep(SCREEN_PERIOD_S)

    async def _read_outside_at_half_time(self) -> None:
        await self._half_time.wait()
        read = await self._outside_read()
        self.observer.show_outside(read)
        if not self._console.is_terminal:
            self._console.print(f"a second process: {read.command}\n  {read.answer}", soft_wrap=True, markup=False)

    async def _summary(self, complete: Path, database: Path, took_s: float) -> Summary:
        comparison = await compare_day(self._client, database, self._options.day)
        await self.observer.look_at_members()
        snapshot = await self.observer.look()
        with Truth.open(database) as flown, Truth.open(complete) as known:
            sql = flown.network(self._options.day)
            misflown = sum(
                left != right
                for left, right in zip(flown.flown(self._options.day), known.flown(self._options.day), strict=True)
            )
        outside = await self._outside_read()
        return Summary(
            snapshot=snapshot,
            sql=sql,
            comparison=comparison,
            misflown=misflown,
            outside=outside,
            outside_is_right=msgspec.json.decode(outside.answer, type=Totals) == sql,
            took_s=took_s,
            reads=self._meter.reads,
            hits=self._meter.hits,
        )

    async def _outside_read(self) -> Any:
        return await read_outside(self._client.address, "Network.totals", str(self._options.day))


if __name__ == "__main__":
    sys.exit(main())
