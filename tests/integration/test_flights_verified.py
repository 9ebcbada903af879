"""The flights are verified while their day is replayed; a row that is changed behind the services' backs is found."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from examples.flights.application import make_app
from examples.flights.dataset.folder import database_url
from examples.flights.replay.events import events_of
from examples.flights.replay.execution import through_host
from examples.flights.replay.replay import Replay
from examples.flights.services import Airports, Flights, History, Network
from fusion_cluster import VerifyOptions, gather
from fusion_cluster.testing import LocalCluster
from tests.flights_day import DAY, USUAL, complete_database, flight_of_kind, fresh_copy

pytestmark = pytest.mark.timeout(240)

COMMANDS = 300


async def test_a_replay_under_verification_has_no_violation_and_a_row_that_was_changed_by_hand_has_its_own(
    tmp_path: Path,
) -> None:
    database = fresh_copy(tmp_path)
    app = make_app(database_url(database))
    async with LocalCluster(app, shards=3, call_timeout_s=120.0, read_lease_s=60.0, strict=False) as cluster:
        flights, network = cluster.service(Flights), cluster.service(Network)
        history = cluster.service(History)
        airports = cluster.service(Airports)
        await gather(network.totals(DAY), history.day(DAY), airports.outbound("JFK", DAY), airports.inbound("LAX", DAY))
        replay = Replay(events_of(complete_database(), DAY)[:COMMANDS], through_host(cluster.host))
        verifying = asyncio.create_task(cluster.verify(5.0, VerifyOptions(rate=50, bound_s=20)))
        await replay.run(seconds=4.0)
        report = await verifying
        assert report.violations == ()
        assert report.compared > 50
        assert report.commands > 10

        flight_id = flight_of_kind(USUAL)
        await gather(*(method(flight_id) for method in (flights.get, flights.departure, flights.arrival)))
        await gather(history.day(DAY), network.totals(DAY))
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("UPDATE flights SET departure = 700 WHERE flight_id = ?", (flight_id,))
        report = await cluster.host.verification.run(options=VerifyOptions(bound_s=0.1))
        found = {violation.key for violation in report.violations}
        assert {f"Flights.departure({flight_id})", f"History.day({DAY!r})"} <= found
        readers = ("Flights.departure(", "Flights.arrival(", "History.")
        assert all(key.startswith(readers) for key in found), "what is computed from these is as right as they are"
        assert all(str(flight_id) in key for key in found if key.startswith("Flights."))
        assert report.compared > len(found)
