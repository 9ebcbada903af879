"""The services: flights, their totals, and the schedule by which they are found."""

from examples.flights.services.aircraft import Aircraft
from examples.flights.services.airports import Airports
from examples.flights.services.carriers import Carriers
from examples.flights.services.flights import Flights
from examples.flights.services.history import History
from examples.flights.services.network import Network
from examples.flights.services.routes import Routes
from examples.flights.services.schedule import Schedule
from examples.flights.services.weather import WeatherReports

__all__ = [
    "Aircraft",
    "Airports",
    "Carriers",
    "Flights",
    "History",
    "Network",
    "Routes",
    "Schedule",
    "WeatherReports",
]
