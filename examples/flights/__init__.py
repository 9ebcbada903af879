"""Real flights as a reactive app: 336,776 departures from New York in 2013, with a day of them replayed.

`python -m examples.flights.demo` shows it; `fusion-cluster serve examples.flights:app` serves it.
"""

from examples.flights.application import app

__all__ = ["app"]
