"""What the flights' services answer, on the real data in one process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path

import pytest

from examples.flights.application import make_app
from examples.flights.clock import show_minute
from examples.flights.dataset.folder import database_url
from examples.flights.services import Aircraft, Airports, Carriers, Flights, History, Network, Routes, WeatherReports
from examples.flights.values import Carrier, Totals, Whereabouts
from fusion_cluster.errors import InvalidArgument
from fusion_cluster.host import LocalHost
from tests.flights_day import (
    AFTER_MIDNIGHT,
    CANCELLED,
    DAY,
    DETOURED,
    LOST,
    USUAL,
    complete_database,
    flight_of_kind,
    fresh_copy,
)
from tests.statements import statements


@pytest.fixture
async def today(tmp_path: Path) -> AsyncIterator[LocalHost]:
    """The day before anything has happened, in a copy of its own."""
    async with make_app(database_url(fresh_copy(tmp_path))).local() as host:
        yield host
        host.graph.validate()


@pytest.fixture
async def history() -> AsyncIterator[LocalHost]:
    """All that is known; only to be read."""
    async with make_app(database_url(complete_database())).local() as host:
        yield host
        host.graph.validate()


async def test_a_flight_goes_from_scheduled_over_departed_to_arrived(today: LocalHost) -> None:
    flights = today.service(Flights)
    flight_id = flight_of_kind(USUAL)
    plan = await flights.plan(flight_id)
    before = flights.get(flight_id)
    assert (await before).status == "scheduled"

    assert await flights.depart(flight_id, plan.scheduled_departure + 20) == 20
    assert not before.is_consistent
    departed = await flights.get(flight_id)
    assert (departed.status, departed.departure_delay_min, departed.arrival) == ("departed", 20, None)

    assert await flights.arrive(flight_id, plan.scheduled_arrival - 5) == -5
    arrived = await flights.get(flight_id)
    assert (arrived.status, arrived.departure_delay_min, arrived.arrival_delay_min) == ("arrived", 20, -5)


async def test_the_arrivals_board_expects_a_flight_as_late_as_it_left(today: LocalHost) -> None:
    flights = today.service(Flights)
    flight_id = flight_of_kind(USUAL)
    plan = await flights.plan(flight_id)
    assert (await flights.arrival(flight_id)).expected is None
    await flights.depart(flight_id, plan.scheduled_departure + 60)
    line = await flights.arrival(flight_id)
    assert line.expected == show_minute(plan.scheduled_arrival + 60)
    await flights.arrive(flight_id, plan.scheduled_arrival)
    assert (await flights.arrival(flight_id)).expected is None


async def test_a_repeated_command_changes_nothing(today: LocalHost) -> None:
    flights, network = today.service(Flights), today.service(Network)
    flight_id = flight_of_kind(USUAL)
    minute = (await flights.plan(flight_id)).scheduled_departure
    for _ in range(2):
        await flights.depart(flight_id, minute + 7)
        totals = await network.totals(DAY)
        assert (totals.departed, totals.departure_delay_min) == (1, 7)


async def test_commands_of_a_flight_commute(today: LocalHost) -> None:
    """A late first try that is carried out after a retry must not undo what came after."""
    flights = today.service(Flights)
    flight_id = flight_of_kind(USUAL)
    plan = await flights.plan(flight_id)
    await flights.arrive(flight_id, plan.scheduled_arrival)
    await flights.depart(flight_id, plan.scheduled_departure)
    assert (await flights.get(flight_id)).status == "arrived"


async def test_a_cancelled_flight_is_cancelled_on_both_boards(today: LocalHost) -> None:
    flights = today.service(Flights)
    flight_id = flight_of_kind(CANCELLED)
    await flights.cancel(flight_id)
    assert (await flights.departure(flight_id)).status == "cancelled"
    assert (await flights.arrival(flight_id)).status == "cancelled"
    totals = await today.service(Network).totals(DAY)
    assert (totals.cancelled, totals.departed) == (1, 0)


async def test_a_diverted_flight_does_not_count_as_arrived(today: LocalHost) -> None:
    flights = today.service(Flights)
    lost, detoured = flight_of_kind(LOST), flight_of_kind(DETOURED)
    for flight_id in (lost, detoured):
        plan = await flights.plan(flight_id)
        await flights.depart(flight_id, plan.scheduled_departure)
    await flights.divert(lost, None)
    await flights.divert(detoured, 1_500)
    assert (await flights.get(lost)).arrival is None
    late = await flights.get(detoured)
    assert (late.status, late.arrival, late.arrival_delay_min) == ("diverted", "01:00+1", None)
    totals = await today.service(Network).totals(DAY)
    assert (totals.departed, totals.diverted, totals.arrived, totals.arrival_delay_min) == (2, 2, 0, 0)


async def test_the_data_has_flights_of_each_kind(history: LocalHost) -> None:
    flights = history.service(Flights)
    kinds = {where: await flights.get(flight_of_kind(where)) for where in (USUAL, CANCELLED, LOST, DETOURED)}
    assert [flight.status for flight in kinds.values()] == ["arrived", "cancelled", "diverted", "diverted"]
    left_late = await flights.get(flight_of_kind(AFTER_MIDNIGHT))
    assert left_late.departure is not None
    assert left_late.departure.endswith("+1")


async def test_a_flight_that_does_not_exist_is_an_invalid_argument(today: LocalHost) -> None:
    flights = today.service(Flights)
    for attempt in (flights.get(0), flights.plan(336_777), flights.depart(0, 10), flights.cancel(-1)):
        with pytest.raises(InvalidArgument, match="there is no flight") as caught:
            await attempt
        assert caught.value.field == "flight_id"


async def test_the_whole_year_is_there(history: LocalHost) -> None:
    year = await history.service(History).year(2013)
    assert year == Totals(336_776, 328_521, 327_346, 1_175, 8_255, 4_152_200, 2_257_174)
    assert await history.service(History).month(2013, 2) != Totals()
    assert await history.service(History).year(2014) == Totals()
    with pytest.raises(InvalidArgument, match="month 13"):
        await history.service(History).month(2013, 13)


async def test_a_command_moves_the_year_by_one_day(today: LocalHost) -> None:
    flights, years = today.service(Flights), today.service(History)
    before = await years.year(2013)
    computations = today.graph.stats.computations
    flight_id = flight_of_kind(USUAL)
    await flights.depart(flight_id, (await flights.plan(flight_id)).scheduled_departure)
    after = await years.year(2013)
    assert after == Totals(before.flights, before.departed + 1, *list_of(before)[2:])
    assert today.graph.stats.computations - computations == 5, "the plan, any_of, one day, one month, the year"


def list_of(totals: Totals) -> list[int]:
    return [getattr(totals, name) for name in Totals.__slots__]


async def test_an_aircraft_is_where_its_last_flight_went(today: LocalHost) -> None:
    flights, aircraft = today.service(Flights), today.service(Aircraft)
    flight_id = flight_of_kind(USUAL)
    tail_number = (await flights.get(flight_id)).tail_number
    assert tail_number is not None
    first = (await aircraft.legs(tail_number, DAY))[0]
    plan = await flights.plan(first.flight_id)
    assert await aircraft.whereabouts(tail_number, DAY) == Whereabouts(tail_number, False, first.origin, None)
    await flights.depart(first.flight_id, plan.scheduled_departure)
    flying = Whereabouts(tail_number, True, first.destination, first.name)
    assert await aircraft.whereabouts(tail_number, DAY) == flying
    await flights.arrive(first.flight_id, plan.scheduled_arrival)
    landed = Whereabouts(tail_number, False, first.destination, first.name)
    assert await aircraft.whereabouts(tail_number, DAY) == landed


async def test_what_the_tables_describe_is_found_by_its_code(history: LocalHost) -> None:
    assert await history.service(Carriers).get("B6") == Carrier("B6", "JetBlue Airways")
    assert await history.service(Carriers).get("ZZ") is None
    added = await history.service(Airports).get("SJU")
    assert added is not None
    assert added.time_zone == "America/Puerto_Rico"
    assert await history.service(Airports).get("ZZZ") is None
    plane = await history.service(Aircraft).get("N14228")
    assert plane is not None
    assert (plane.manufacturer, plane.seats) == ("BOEING", 149)
    assert await history.service(Aircraft).get("NOBODY") is None


async def test_the_weather_of_an_hour_is_known_also_where_the_clock_was_turned_back(history: LocalHost) -> None:
    weather = history.service(WeatherReports)
    now = await weather.at("JFK", DAY, 17)
    assert now is not None
    assert now.temperature_f is not None
    twice = await weather.at("EWR", date(2013, 11, 3), 1)
    assert twice is not None
    assert twice.observed_at == "2013-11-03T05:00:00Z"
    assert await weather.at("LAX", DAY, 17) is None


async def test_the_first_read_of_a_board_is_a_handful_of_queries(history: LocalHost) -> None:
    airports, routes, network = history.service(Airports), history.service(Routes), history.service(Network)
    with statements() as sent:
        assert len(await airports.departures_board("JFK", DAY)) > 300
    assert len(sent) <= 4, "the hours, their flights, the flights' rows"
    with statements() as sent:
        assert len(await airports.arrivals_board("LAX", DAY)) > 30
    assert len(sent) <= 5
    with statements() as sent:
        assert (await routes.totals("EWR-ORD", DAY)).flights > 10
    assert len(sent) <= 4
    with statements() as sent:
        assert (await network.totals(DAY)).flights > 900
    assert len(sent) <= 16, "some for each level of the graph, none for each flight"


async def test_a_board_is_in_the_order_of_the_schedule_and_goes_on_after_midnight(history: LocalHost) -> None:
    airports = history.service(Airports)
    departures = await airports.departures_board("JFK", DAY)
    assert [line.scheduled for line in departures] == sorted(line.scheduled for line in departures)
    arrivals = await airports.arrivals_board("SJU", DAY)
    assert arrivals[-1].scheduled.endswith("+1")
    assert await airports.departures_board("LAX", DAY) == (), "the data has only flights out of New York"


async def test_a_route_that_is_none_is_an_invalid_argument(history: LocalHost) -> None:
    routes = history.service(Routes)
    assert (await routes.totals("JFK-LAX", DAY)).flights == len(await routes.board("JFK-LAX", DAY)) > 20
    assert await routes.totals("JFK-ZZZ", DAY) == Totals()
    for wrong in ("JFKLAX", "-LAX", "JFK-", ""):
        with pytest.raises(InvalidArgument, match="a route is written like EWR-IAH"):
            await routes.totals(wrong, DAY)
