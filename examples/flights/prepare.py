"""`python -m examples.flights.prepare`: load the flights and make a day's working copy, for `fusion-cluster serve`.

Prints the URL to set FUSION_FLIGHTS_DATABASE to; it is the default one for the default day.
"""

from __future__ import annotations

import argparse
import sys
from datetime import date

from rich.console import Console

from examples.flights.dataset.errors import FlightsDataError
from examples.flights.dataset.folder import DEFAULT_DAY, cache_folder, database_url
from examples.flights.dataset.loading import load_flights
from examples.flights.dataset.progress import load_progress
from examples.flights.dataset.working_copy import make_working_copy


def main() -> int:
    """Prepare, and say where."""
    parser = argparse.ArgumentParser(prog="python -m examples.flights.prepare", description=__doc__)
    parser.add_argument("--day", type=date.fromisoformat, default=DEFAULT_DAY, help="the day to replay, of 2013")
    day: date = parser.parse_args().day
    try:
        with load_progress(Console(stderr=True)) as progress:
            complete = load_flights(cache_folder(), progress)
        sys.stdout.write(f"{database_url(make_working_copy(complete, day))}\n")
    except FlightsDataError as error:
        sys.stderr.write(f"error: {error.message}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
