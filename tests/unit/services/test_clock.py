"""The clock: steps that begin when they should, words that change when they should, and nothing computed in between."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest

from fusion_cluster import App, ComputeService, InvalidArgument, compute_method
from fusion_cluster.bodies.attaching import attach
from fusion_cluster.graph import Graph, GraphHosting
from fusion_cluster.services import Clock
from fusion_cluster.testing import LocalCluster, VirtualRuntime, run_in_virtual_time
from tests.waiting import until

NOON_S = datetime(2026, 7, 1, 12, tzinfo=UTC).timestamp()
MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86_400.0


class Board(ComputeService):
    """Something with times in it."""

    clock: Clock

    def __init__(self) -> None:
        self.computed = 0

    @compute_method
    async def line(self, moment: datetime) -> str:
        self.computed += 1
        return f"came {await self.clock.moments_ago(moment)}"

    @compute_method
    async def minute(self) -> str:
        self.computed += 1
        return f"{await self.clock.now(60):%H:%M}"


class Bench:
    """A clock and a board in one graph, in virtual time, with a wall clock that begins at some time."""

    def __init__(self, starts_at_s: float) -> None:
        runtime = VirtualRuntime(starts_at_s=starts_at_s)
        self.wall = runtime.wall_clock
        self.graph = Graph(runtime=runtime)
        self.clock, self.board = Clock(), Board()
        for service in (self.clock, self.board):
            attach(service, GraphHosting(self.graph))
        self.board.clock = self.clock


def in_virtual_time(starts_at_s: float, test: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        bench = Bench(starts_at_s)
        await test(bench)
        bench.graph.validate()
        await bench.graph.close()

    run_in_virtual_time(main())


# -- now ---------------------------------------------------------------------------------------------------------------
def test_now_is_rounded_down_and_steps_when_the_next_step_begins() -> None:
    async def test(bench: Bench) -> None:
        minute = bench.clock.now(60)
        assert await minute == datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
        await asyncio.sleep(42 - 0.01)
        assert minute.is_consistent
        assert await bench.board.minute() == "12:00"
        await minute.when_invalidated()
        assert bench.wall() - NOON_S == pytest.approx(60, abs=0.003)
        assert await bench.clock.now(60) == datetime(2026, 7, 1, 12, 1, tzinfo=UTC)
        assert await bench.board.minute() == "12:01"

    in_virtual_time(NOON_S + 18, test)


@pytest.mark.parametrize("granularity_s", [0.01, 0.1, 0.3, 1, 1 / 3, 7, 60, 3600, 86_400, 604_800.5])
def test_each_step_is_computed_once_and_none_is_early_or_late(granularity_s: float) -> None:
    async def test(bench: Bench) -> None:
        loop = asyncio.get_running_loop()
        seen: list[float] = []
        computed = bench.clock.now(granularity_s)
        for _ in range(50):
            seen.append((await computed).timestamp())
            assert seen[-1] <= bench.wall() + 1e-6
            assert bench.wall() - seen[-1] < granularity_s + 1e-6
            await computed.when_invalidated()
            late_s = bench.wall() - (seen[-1] + granularity_s)
            assert -1e-6 < late_s < 0.003, late_s
            computed = await computed.update()
        assert seen == sorted(set(seen))  # no step twice
        steps = [later - earlier for earlier, later in pairwise(seen)]
        assert steps == pytest.approx([granularity_s] * 49, abs=1e-6)  # and none left out
        assert bench.graph.stats.computations == 51
        assert loop.time() == pytest.approx(50 * granularity_s, abs=granularity_s + 0.5)

    in_virtual_time(NOON_S + 0.123, test)


def test_nothing_ticks_that_nobody_asks_for() -> None:
    async def test(bench: Bench) -> None:
        await bench.board.minute()
        await asyncio.sleep(3600)
        assert bench.board.computed == 1
        assert bench.graph.stats.nodes == 0

    in_virtual_time(NOON_S, test)


def test_a_clock_that_is_set_back_shows_no_step_before_its_time() -> None:
    async def test(bench: Bench) -> None:
        minute = bench.clock.now(60)
        await minute
        bench.wall.ahead_s -= 45
        await minute.when_invalidated()
        assert bench.wall() - NOON_S == pytest.approx(60, abs=0.003)
        assert asyncio.get_running_loop().time() == pytest.approx(105, abs=0.003)

    in_virtual_time(NOON_S, test)


# -- moments_ago -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("ago_s", "words"),
    [
        (-5, "just now"),
        (-1e6, "just now"),
        (0, "just now"),
        (59.9, "just now"),
        (60, "a minute ago"),
        (119.9, "a minute ago"),
        (120, "2 minutes ago"),
        (59 * MINUTE_S, "59 minutes ago"),
        (HOUR_S - 0.1, "59 minutes ago"),
        (HOUR_S, "an hour ago"),
        (2 * HOUR_S, "2 hours ago"),
        (DAY_S - 1, "23 hours ago"),
        (DAY_S, "a day ago"),
        (29.9 * DAY_S, "29 days ago"),
        (30 * DAY_S, "a month ago"),
        (60 * DAY_S, "2 months ago"),
        (364 * DAY_S, "12 months ago"),
        (365 * DAY_S, "a year ago"),
        (729 * DAY_S, "a year ago"),
        (730 * DAY_S, "2 years ago"),
        (36_500 * DAY_S, "100 years ago"),
    ],
)
def test_how_long_ago_a_moment_was_in_words(ago_s: float, words: str) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.clock.moments_ago(datetime.fromtimestamp(NOON_S - ago_s, UTC)) == words

    in_virtual_time(NOON_S, test)


@pytest.mark.parametrize("seed", range(5))
def test_the_words_change_exactly_when_they_should_over_three_years(seed: int) -> None:
    async def test(bench: Bench) -> None:
        rng = random.Random(seed)
        moment = datetime.fromtimestamp(NOON_S + rng.random(), UTC)
        line = bench.board.line(moment)
        changes: list[tuple[float, str]] = []
        while (ago_s := bench.wall() - moment.timestamp()) < 3 * 365 * DAY_S:
            changes.append((ago_s, await line))
            await line.when_invalidated()
            line = bench.board.line(moment)
        words = [text for _, text in changes]
        assert len(set(words)) == len(words)  # none is computed twice
        assert len(words) == 1 + 59 + 23 + 29 + 12 + 2 == bench.board.computed
        units = {"minute": MINUTE_S, "hour": HOUR_S, "day": DAY_S, "month": 30 * DAY_S, "year": 365 * DAY_S}
        for ago_s, text in changes[1:]:
            count, unit = text.removeprefix("came ").split()[:2]
            expected_s = units[unit.removesuffix("s")] * (1 if count in ("a", "an") else int(count))
            assert 0 <= ago_s - expected_s + 1e-6 < 0.01, (text, ago_s)

    in_virtual_time(NOON_S + 1, test)


def test_a_moment_is_the_same_in_every_zone() -> None:
    async def test(bench: Bench) -> None:
        moment = datetime.fromtimestamp(NOON_S - 90, UTC)
        elsewhere = moment.astimezone(timezone(timedelta(hours=-7)))
        assert await bench.clock.moments_ago(moment) == await bench.clock.moments_ago(elsewhere) == "a minute ago"
        assert bench.graph.stats.computations == 1

    in_virtual_time(NOON_S, test)


# -- hosted ------------------------------------------------------------------------------------------------------------
@pytest.fixture(params=["local", "three shards"])
async def services(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    app = App("clock", services=[Clock, Board])  # it needs no database
    if request.param == "local":
        async with app.local() as host:
            yield host
    else:
        async with LocalCluster(app, shards=3) as cluster:
            yield cluster


async def test_steps_reach_all_who_have_read_the_clock(services: Any) -> None:
    clock = services.service(Clock)
    seen: list[datetime] = []
    async for computed in clock.now.changes(0.05):
        seen.append(computed.value)
        if len(seen) == 5:
            break
    assert seen == sorted(set(seen))
    assert (seen[-1] - seen[0]).total_seconds() >= 0.2 - 1e-6
    moment = datetime.now(UTC) - timedelta(seconds=59.8)
    line = services.service(Board).line(moment)
    assert await line == "came just now"
    await until(lambda: not line.is_consistent)
    assert await services.service(Board).line(moment) == "came a minute ago"


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda clock: clock.now(0), "granularity_s"),
        (lambda clock: clock.now(0.001), "granularity_s"),
        (lambda clock: clock.now(-1), "granularity_s"),
        (lambda clock: clock.now(float("nan")), "granularity_s"),
        (lambda clock: clock.now(float("inf")), "granularity_s"),
        (lambda clock: clock.now("1"), "granularity_s"),
        (lambda clock: clock.moments_ago(datetime(2026, 7, 1)), "moment"),
        (lambda clock: clock.moments_ago("yesterday"), "moment"),
    ],
)
async def test_what_cannot_be_is_refused_and_named(services: Any, call: Any, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await call(services.service(Clock))
    assert caught.value.field == field
