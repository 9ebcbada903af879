"""A day replayed: every board and total equals SQL's, and a command moves what depends on it and nothing else."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Coroutine
from contextlib import closing
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from examples.flights.application import make_app
from examples.flights.dataset.folder import database_url
from examples.flights.replay.events import FlightEvent, events_of
from examples.flights.replay.execution import through_host
from examples.flights.replay.replay import Replay
from examples.flights.services import Airports, Flights
from examples.flights.truth import Truth, compare_day
from fusion_cluster.graph import Computed
from fusion_cluster.host import LocalHost
from fusion_cluster.testing import LocalCluster
from tests.flights_day import DAY, USUAL, complete_database, flight_of_kind, fresh_copy
from tests.waiting import until

pytestmark = pytest.mark.timeout(240)

MOMENTS = (0, 300, 1_250)
"""Commands after which the cached figures are looked at, besides the end of the day."""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return fresh_copy(tmp_path)


@pytest.fixture
async def host(database: Path) -> AsyncIterator[LocalHost]:
    async with make_app(database_url(database)).local() as host:
        yield host
        host.graph.validate()


@pytest.fixture(scope="module")
def events() -> list[FlightEvent]:
    return events_of(complete_database(), DAY)


def record_computations(host: LocalHost, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The methods whose bodies run from now on."""
    log: list[str] = []
    produce = host.produce

    def recorded(node: Computed[Any]) -> Coroutine[Any, Any, Any]:
        log.append(node.function.name)
        return produce(node)

    monkeypatch.setattr(host, "produce", recorded)
    return log


async def test_after_a_day_and_at_moments_within_it_all_figures_are_those_of_sql(
    host: LocalHost, database: Path, events: list[FlightEvent]
) -> None:
    for begin, end in pairwise((*MOMENTS, len(events))):
        comparison = await compare_day(host, database, DAY)
        assert comparison.differences == ()
        await Replay(events[begin:end], through_host(host)).run()
    comparison = await compare_day(host, database, DAY)
    assert comparison.differences == ()
    assert comparison.figures > 1_000
    with Truth.open(database) as flown, Truth.open(complete_database()) as known:
        assert flown.flown(DAY) == known.flown(DAY)
        assert flown.network(DAY).departed == 883


async def test_the_comparison_sees_a_change_that_went_around_the_services(host: LocalHost, database: Path) -> None:
    assert (await compare_day(host, database, DAY)).differences == ()
    flight_id = flight_of_kind(USUAL)
    await host.service(Flights).departure.invalidate(flight_id)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE flights SET departure = 700 WHERE flight_id = ?", (flight_id,))
    differences = (await compare_day(host, database, DAY)).differences
    assert {difference.figure for difference in differences} == {"history day", "history month", "history year"}
    assert "history day: cached Totals(" in str(differences[0])


async def test_a_command_moves_what_depends_on_it_and_nothing_else(
    host: LocalHost, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await compare_day(host, database, DAY)
    flights = host.service(Flights)
    flight_id = flight_of_kind(USUAL)
    log = record_computations(host, monkeypatch)
    await flights.depart(flight_id, 600)
    assert log == [], "a command recomputes nothing; reading does"
    assert (await compare_day(host, database, DAY)).differences == ()
    assert sorted(log) == sorted(MOVED_BY_ARRIVAL + MOVED_BY_DEPARTURE_ALONE)
    log.clear()
    await flights.arrive(flight_id, 900)
    assert (await compare_day(host, database, DAY)).differences == ()
    assert sorted(log) == sorted(MOVED_BY_ARRIVAL), "an arrival leaves the departures boards alone"


MOVED_BY_DEPARTURE_ALONE = ["Flights.departure", "Airports.departures_at", "Airports.departures_board"]
MOVED_BY_ARRIVAL = [
    "Flights.arrival",
    "Flights.get",
    "Flights.any_of",
    "Airports.arrivals_at",
    "Airports.arrivals_board",
    "Airports.inbound",
    "Airports.outbound",
    "Aircraft.legs",
    "Aircraft.totals",
    "Carriers.totals",
    "Carriers.totals_at",
    "History.day",
    "History.month",
    "History.year",
    "Network.by_carrier",
    "Network.by_destination",
    "Network.by_origin",
    "Network.totals",
    "Routes.board",
    "Routes.totals",
]


async def test_what_a_departure_moves_lives_on_several_shards(database: Path) -> None:
    async with LocalCluster(make_app(database_url(database)), shards=3) as cluster:
        flight_id = flight_of_kind(USUAL)
        outbound = cluster.service(Airports).outbound("JFK", DAY)
        assert (await outbound).departed == 0
        await cluster.service(Flights).depart(flight_id, 600)
        assert not outbound.is_consistent
        assert (await cluster.service(Airports).outbound("JFK", DAY)).departed == 1
        keys: list[tuple[str, tuple[object, ...]]] = [
            ("Flights.get", (flight_id,)),
            ("Routes.totals", ("JFK-LAX", DAY)),
            ("Airports.outbound", ("JFK", DAY)),
            ("Airports.inbound", ("LAX", DAY)),
            ("Network.totals", (DAY,)),
        ]
        assert len({cluster.owner(name, *arguments).address.shard_id for name, arguments in keys}) > 1


def is_longer(confirmed: list[FlightEvent], count: int) -> bool:
    return len(confirmed) >= count


async def test_a_shard_that_dies_in_the_middle_leaves_the_totals_right(
    database: Path, events: list[FlightEvent]
) -> None:
    """Part of the day on three shards; two of them are lost on the way and come back empty."""
    part = events[:300]
    app = make_app(database_url(database))
    async with LocalCluster(app, shards=3, read_lease_s=1.0, call_timeout_s=120.0) as cluster:
        assert (await compare_day(cluster, database, DAY)).differences == ()
        losses = {100: 1, 200: 2}
        confirmed: list[FlightEvent] = []
        replay = Replay(part, through_host(cluster.host), on_confirmed=confirmed.append)

        async def lose_shards() -> None:
            for count, shard_id in losses.items():
                await until(partial(is_longer, confirmed, count), timeout_s=60.0)
                await cluster.kill_shard(shard_id)
                await cluster.start_shard(shard_id)

        await asyncio.gather(replay.run(), lose_shards())
        assert len(confirmed) == len(part)
        assert (await compare_day(cluster, database, DAY)).differences == ()
        cluster.validate()
