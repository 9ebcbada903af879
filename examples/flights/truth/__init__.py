"""The same boards and totals in plain SQL, to prove the cached ones right."""

from examples.flights.truth.comparison import Difference, compare_day
from examples.flights.truth.sql import Truth

__all__ = ["Difference", "Truth", "compare_day"]
