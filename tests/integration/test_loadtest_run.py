"""`python -m loadtest` from its command line to its exit code, against a gateway with a flights app of dictionaries."""

from __future__ import annotations

import asyncio
import sys
from datetime import date
from pathlib import Path

import pytest

from fusion_cluster import App, ComputeService, command, compute_method
from tests.gateways import serving_locally
from tests.processes.started import running

FLIGHTS = 200
PLANNED = 600
TIMEOUT_S = 60


class Flights(ComputeService):
    def __init__(self) -> None:
        self.delays: dict[int, int] = {}

    @compute_method
    async def get(self, flight_id: int) -> dict[str, int]:
        return {"flight_id": flight_id}

    @compute_method
    async def plan(self, flight_id: int) -> dict[str, int]:
        return {"scheduled_departure": PLANNED}

    @compute_method
    async def departure(self, flight_id: int) -> dict[str, int]:
        return {"delay_min": self.delays.get(flight_id, 0)}

    @command
    async def depart(self, flight_id: int, departure: int) -> int:
        self.delays[flight_id] = departure - PLANNED
        await self.departure.invalidate(flight_id)
        return departure - PLANNED


class ForgetfulFlights(Flights):
    service_name = "Flights"

    @command
    async def depart(self, flight_id: int, departure: int) -> int:
        return departure - PLANNED


class Airports(ComputeService):
    @compute_method
    async def departures_board(self, airport: str, day: date) -> list[dict[str, int]]:
        return [{"flight_id": flight_id} for flight_id in range(FLIGHTS)]

    @compute_method
    async def arrivals_board(self, airport: str, day: date) -> list[dict[str, int]]:
        return []

    @compute_method
    async def totals(self, airport: str, day: date) -> dict[str, int]:
        return {"flights": FLIGHTS}


class Network(ComputeService):
    @compute_method
    async def totals(self, day: date) -> dict[str, int]:
        return {"flights": FLIGHTS}

    @compute_method
    async def by_origin(self, day: date) -> dict[str, dict[str, int]]:
        return {"JFK": {"flights": FLIGHTS}}

    @compute_method
    async def by_destination(self, day: date) -> dict[str, dict[str, int]]:
        return {"BOS": {"flights": 2}, "ORD": {"flights": 1}}


async def run_load(app: App, folder: Path) -> tuple[int | None, str]:
    """The exit code and the output of a run of two seconds."""
    async with serving_locally(app) as served:
        options = ("--address", served.gateway.address, "--seconds", "2", "--users", "6", "--rate", "20")
        command = (sys.executable, "-m", "loadtest", *options)
        async with running(*command, cwd=folder, stdout=-1, stderr=asyncio.subprocess.STDOUT) as process:
            output, _ = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
        return process.returncode, output.decode()


async def test_a_run_ends_by_itself_prints_totals_and_leaves_its_reports(tmp_path: Path) -> None:
    code, output = await run_load(App("flights", services=[Flights, Airports, Network]), tmp_path)
    assert code == 0, output
    for row in ("Flights.get", "Flights.depart", "Network.totals", "but the gaps", "open loop"):
        assert row in output
    reports = {path.name for path in (tmp_path / "out" / "load").iterdir()}
    assert reports >= {"report.html", "locust_stats.csv", "locust_stats_history.csv", "statistics.json"}


async def test_a_read_that_does_not_give_what_was_written_fails_the_run(tmp_path: Path) -> None:
    code, output = await run_load(App("flights", services=[ForgetfulFlights, Airports, Network]), tmp_path)
    assert code == 1
    assert "requests failed" in output
    assert "StaleReadError" in (tmp_path / "out" / "load" / "locust_failures.csv").read_text()


@pytest.mark.parametrize("wrong", [["--seconds", "0"], ["--users", "soon"], ["--rate", "nan"]])
async def test_wrong_options_are_refused(wrong: list[str], tmp_path: Path) -> None:
    command = (sys.executable, "-m", "loadtest", *wrong)
    async with running(*command, cwd=tmp_path, stdout=-1, stderr=asyncio.subprocess.STDOUT) as process:
        output, _ = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
    assert process.returncode == 2
    assert wrong[0] in output.decode()
