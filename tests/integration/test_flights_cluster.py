"""The flights on Ray: a shard killed during the replay, a second process reading, and the demo as a whole."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from examples.flights.cluster import APP
from examples.flights.dataset.folder import DATABASE_VARIABLE, cache_folder, database_url
from examples.flights.replay.events import FlightEvent, events_of
from examples.flights.replay.execution import through_client
from examples.flights.replay.replay import Replay
from examples.flights.show.outside import read_outside
from examples.flights.truth import Truth, compare_day
from examples.flights.values import Totals
from fusion_cluster.client import connect
from fusion_cluster.errors import ShardUnavailable
from fusion_shards.launch import LaunchedApp, launch
from tests.flights_day import DAY, complete_database, fresh_copy
from tests.thorough import times
from tests.waiting import until

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

COMMANDS = times(300, 800)

QUIET_DAY = "2013-08-31"
"""One of the shortest days with flights that are cancelled and diverted: a short demo of all that a day has."""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return fresh_copy(tmp_path)


@pytest.fixture
async def launched(ray_cluster: str, database: Path) -> AsyncIterator[LaunchedApp]:
    environment = {DATABASE_VARIABLE: database_url(database)}
    async with await launch(APP, shards=2, grpc_port=0, environment=environment) as app:
        yield app


async def test_a_shard_killed_during_the_replay_leaves_every_figure_right(
    launched: LaunchedApp, database: Path
) -> None:
    events = events_of(complete_database(), DAY)[:COMMANDS]
    confirmed: list[FlightEvent] = []
    (address,) = launched.gateway_addresses
    async with connect(address, timeout_s=120.0) as client:
        replay = Replay(events, through_client(client), on_confirmed=confirmed.append)

        async def kill_a_shard() -> None:
            await until(lambda: len(confirmed) > COMMANDS // 2, timeout_s=240.0)
            (victim,) = [
                each for each in (await launched.status()).members if (each.role, each.member_id) == ("shard", 1)
            ]
            os.kill(victim.pid, signal.SIGKILL)

        await compare_day(client, database, DAY)
        await asyncio.gather(replay.run(), kill_a_shard())
        assert len(confirmed) == COMMANDS
        comparison = await compare_day(client, database, DAY)
        assert comparison.differences == ()
        epochs = {each.member_id: each.epoch for each in (await launched.status()).members if each.role == "shard"}
        assert epochs == {0: 1, 1: 2}
        read = await read_outside(address, "Network.totals", DAY.isoformat())
        with Truth.open(database) as truth:
            assert msgspec.json.decode(read.answer, type=Totals) == truth.network(DAY)


async def test_a_second_process_that_cannot_read_says_why() -> None:
    with pytest.raises(ShardUnavailable, match=r"fusion-cluster call Network.totals 2013-07-10 .* failed: error: "):
        await read_outside("127.0.0.1:1", "Network.totals", DAY.isoformat())


def test_the_demo_replays_a_day_and_finds_every_figure_right(tmp_path: Path) -> None:
    complete_database()
    # A folder of its own for the working copy; the flights themselves are not loaded again.
    (tmp_path / "flights.db").symlink_to(complete_database())
    demo = subprocess.run(
        [
            sys.executable,
            "-m",
            "examples.flights.demo",
            "--seconds",
            "5",
            "--port",
            "0",
            "--day",
            times(QUIET_DAY, DAY.isoformat()),
        ],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "FUSION_FLIGHTS_DATA": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    for wanted in ("serving at 127.0.0.1:", "a second process: ", "no differ", "all figures are right"):
        assert wanted in demo.stdout
    assert cache_folder() != tmp_path
