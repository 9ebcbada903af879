"""The app: the flights' services over one database."""

from __future__ import annotations

from examples.flights.dataset.folder import served_url
from examples.flights.services import (
    Aircraft,
    Airports,
    Carriers,
    Flights,
    History,
    Network,
    Routes,
    Schedule,
    WeatherReports,
)
from fusion_cluster import App, Database

SERVICES = (Schedule, Flights, Routes, Carriers, Aircraft, Airports, Network, History, WeatherReports)


def make_app(url: str) -> App:
    """The app over the database of that URL."""
    return App("flights", services=SERVICES, database=Database(url))


app = make_app(served_url())
"""What `examples.flights:app` serves: FUSION_FLIGHTS_DATABASE, by default the default day's working copy."""
