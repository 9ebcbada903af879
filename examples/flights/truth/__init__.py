"""The same boards and totals in plain SQL. They prove that the cached ones are right."""

from examples.flights.truth.comparison import Difference, compare_day
from examples.flights.truth.sql import Truth

__all__ = ["Difference", "Truth", "compare_day"]
