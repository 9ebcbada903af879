"""`python -m loadtest`: a local cluster with the flights app, locust against its gateway, the totals as a table.

Ends by itself: with 0 when every request was answered, with 1 when some failed or none were made.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path
from types import FrameType

from rich.console import Console

from examples.flights.dataset.errors import FlightsDataError
from examples.flights.dataset.folder import DATABASE_VARIABLE, cache_folder, database_url
from examples.flights.dataset.loading import load_flights
from examples.flights.dataset.progress import load_progress
from examples.flights.dataset.working_copy import make_working_copy
from loadtest.cluster import ClusterDidNotStartError, free_port, serve_command, served
from loadtest.open_loop import measure
from loadtest.population import DAY
from loadtest.summary import as_table, read_statistics

APP = "examples.flights:app"
FOLDER = Path("out") / "load"
START_TIMEOUT_S = 180.0
OPEN_LOOP_S = 5
MAX_COUNT = 1_000_000
MAX_RATE = 1e6
WIDTH = 120


def main() -> int:
    """Run a load test; see the module."""
    options = _options()
    signal.signal(signal.SIGTERM, _end)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    address = options.address
    try:
        if address is not None:
            return run(address, options, console)
        port = free_port()
        environment = {DATABASE_VARIABLE: database_url(prepare_database(console))}
        command = serve_command(APP, shards=options.shards, gateways=1, port=port)
        console.print(f"starting {APP} with {options.shards} shards; its log: {FOLDER / 'cluster.log'}")
        address = f"127.0.0.1:{port}"
        with served(
            command, address=address, log=FOLDER / "cluster.log", timeout_s=START_TIMEOUT_S, environment=environment
        ):
            return run(address, options, console)
    except (ClusterDidNotStartError, FlightsDataError) as error:
        console.print(str(error), style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("stopped")
        return 130


def prepare_database(console: Console) -> Path:
    """A copy of the flights' database for this run, with the day's flights not yet flown."""
    with load_progress(console) as progress:
        complete = load_flights(cache_folder(), progress)
    FOLDER.mkdir(parents=True, exist_ok=True)
    return make_working_copy(complete, date.fromisoformat(DAY), (FOLDER / "flights.db").absolute())


def run(address: str, options: argparse.Namespace, console: Console) -> int:
    """Put the load on a gateway and print what came of it; the exit code."""
    code = run_locust(address, options.seconds, options.users, console)
    if options.rate and code == 0:
        outcome = asyncio.run(measure(address, rate=options.rate, seconds=min(OPEN_LOOP_S, options.seconds)))
        console.print(outcome.as_table())
        code = 1 if outcome.failures else 0
    return code


def run_locust(address: str, seconds: int, users: int, console: Console) -> int:
    """Run locust's users and print the totals; the exit code."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    statistics = statistics_path()
    statistics.unlink(missing_ok=True)
    console.print(f"{users} users for {seconds} s at {address}")
    locust = subprocess.Popen(locust_command(address, seconds, users))
    try:
        code = locust.wait(timeout=seconds + 60)
    finally:
        if locust.poll() is None:
            locust.terminate()
            locust.wait(10)
    rows = read_statistics(statistics) if statistics.exists() else []
    if not rows:
        console.print(f"no request was made; see {FOLDER / 'locust.log'}", style="red")
        return 1
    console.print(as_table(rows))
    console.print(f"report: {FOLDER / 'report.html'}, CSV: {FOLDER}/locust_*.csv, JSON: {statistics}")
    failures = rows[-1].failures
    if failures:
        console.print(f"{failures:,} requests failed; see {FOLDER / 'locust_failures.csv'}", style="red")
    return 1 if failures or code else 0


def statistics_path() -> Path:
    """Where locust writes its statistics; it adds the suffix by itself."""
    return FOLDER / "statistics.json"


def locust_command(address: str, seconds: int, users: int) -> list[str]:
    """Locust without its web page, in the Python that runs this."""
    return [
        *(sys.executable, "-m", "locust", "--locustfile", str(Path(__file__).with_name("locustfile.py"))),
        *("--headless", "--host", address, "--users", str(users), "--spawn-rate", str(max(1, users // 2))),
        *("--run-time", f"{seconds}s", "--stop-timeout", str(min(5, seconds)), "--only-summary"),
        *("--html", str(FOLDER / "report.html"), "--csv", str(FOLDER / "locust"), "--csv-full-history"),
        *("--json-file", str(statistics_path().with_suffix("")), "--logfile", str(FOLDER / "locust.log")),
    ]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtest", description=__doc__)
    parser.add_argument("--seconds", type=_positive, default=30, help="how long (30)")
    parser.add_argument("--users", type=_positive, default=20, help="how many at the same time (20)")
    parser.add_argument("--shards", type=_positive, default=2, help="shards of the local cluster (2)")
    parser.add_argument("--rate", type=_rate, default=100.0, help="calls/s of the open loop at the end, 0: none (100)")
    parser.add_argument("--address", help="a gateway that runs already, instead of a cluster of its own")
    return parser.parse_args()


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_COUNT:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {MAX_COUNT:,}, not {text!r}")
    return int(text)


def _rate(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= MAX_RATE:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to {MAX_RATE:,.0f}, not {text!r}")
    return number


def _end(_number: int, _frame: FrameType | None) -> None:
    # An exception, so that the cluster is stopped on the way out.
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
