"""Cached against computed in SQL: every board and total of a day, and the sums over time that contain it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Protocol, TypeVar

from examples.flights.services import Aircraft, Airports, Carriers, History, Network, Routes
from examples.flights.truth.sql import Truth
from fusion_cluster import ComputeService, gather

S = TypeVar("S", bound=ComputeService)
V = TypeVar("V")


class Services(Protocol):
    """Anything that has the app's services: a local host, a member of a cluster, a client."""

    def service(self, service: type[S], /) -> S:
        """The instance of a service class."""
        ...


@dataclass(frozen=True)
class Difference:
    """A figure that is cached other than SQL says."""

    figure: str
    cached: object
    truth: object

    def __str__(self) -> str:
        return f"{self.figure}: cached {self.cached}, in SQL {self.truth}"


@dataclass(frozen=True)
class Comparison:
    """What a comparison found: how many figures it looked at, and those that differ."""

    figures: int
    differences: tuple[Difference, ...]


async def compare_day(services: Services, database: Path, day: date) -> Comparison:
    """Compare while no command runs; reads go through whatever `services` is.

    Args:
        services: where to read the cached figures.
        database: the file that those services are over.
        day: the day whose boards and totals to compare, with its month and year.
    """
    found = _Findings()
    airports, network = services.service(Airports), services.service(Network)
    history = services.service(History)
    with Truth.open(database) as truth:
        found.see("network", await network.totals(day), truth.network(day))
        found.see("history day", await history.day(day), truth.network(day))
        found.see("history month", await history.month(day.year, day.month), truth.month(day.year, day.month))
        found.see("history year", await history.year(day.year), truth.year(day.year))
        found.see("network by origin", await network.by_origin(day), truth.by_origin(day))
        found.see("network by destination", await network.by_destination(day), truth.by_destination(day))
        found.see("network by carrier", await network.by_carrier(day), truth.by_carrier(day))

        await found.see_each("outbound", truth.by_origin(day), lambda code: airports.outbound(code, day))
        await found.see_each("inbound", truth.by_destination(day), lambda code: airports.inbound(code, day))
        carriers, routes = services.service(Carriers), services.service(Routes)
        aircraft = services.service(Aircraft)
        await found.see_each("carrier", truth.by_carrier(day), lambda code: carriers.totals(code, day))
        await found.see_each("route", truth.by_route(day), lambda route: routes.totals(route, day))
        await found.see_each("aircraft", truth.by_aircraft(day), lambda tail: aircraft.totals(tail, day))

        departures = {code: truth.departures_board(code, day) for code in truth.by_origin(day)}
        arrivals = {code: truth.arrivals_board(code, day) for code in truth.by_destination(day)}
        await found.see_each("departures board", departures, lambda code: airports.departures_board(code, day))
        await found.see_each("arrivals board", arrivals, lambda code: airports.arrivals_board(code, day))
    return Comparison(found.figures, tuple(found.differences))


class _Findings:
    def __init__(self) -> None:
        self.figures = 0
        self.differences: list[Difference] = []

    def see(self, figure: str, cached: object, truth: object) -> None:
        self.figures += 1
        if cached != truth:
            self.differences.append(Difference(figure, cached, truth))

    async def see_each(self, kind: str, truth: Mapping[str, V], read: Callable[[str], Awaitable[V]]) -> None:
        keys: Iterable[str] = list(truth)
        for key, cached in zip(keys, await gather(*(read(key) for key in keys)), strict=True):
            self.see(f"{kind} {key}", cached, truth[key])
