"""B.18: a command that would be a part of itself, or wait for itself, is refused, with the path."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

import pytest

from fusion_cluster import App, ComputeService, UsageError, command, compute_method
from fusion_cluster.errors import CircularDependencyError
from fusion_cluster.testing import LocalCluster

FAR_BELOW_THE_TIMEOUT_S = 30.0


class Dance(ComputeService):
    """Steps that lead to others."""

    log: ClassVar[list[str]]
    elsewhere: ClassVar[Dance | None]
    left_behind: ClassVar[list[asyncio.Task[str]]]
    has_ended: ClassVar[asyncio.Event]

    @command
    async def waltz(self, name: str) -> str:
        self.log.append(f"waltz {name}")
        return await self.tango(name)

    @command
    async def tango(self, name: str) -> str:
        self.log.append(f"tango {name}")
        return await self.waltz(name)

    @command
    async def polka(self, name: str) -> str:
        return await self.polka(name)

    @command
    async def daring(self, name: str) -> str:
        try:
            return await self.waltz(name)
        except CircularDependencyError:
            return f"{name} stumbles"

    @command
    async def count_down(self, name: str, number: int) -> list[int]:
        return [number, *(await self.count_down(name, number - 1) if number else [])]

    @command
    async def twice(self, name: str) -> list[str]:
        once, again = await asyncio.gather(self.step(name), self.step(name))
        return [once, again, await self.step(name)]

    @command
    async def step(self, name: str) -> str:
        await asyncio.sleep(0)
        return name

    @command
    async def leave_behind(self, name: str, times: int) -> str:
        if times:
            self.left_behind.append(asyncio.create_task(self._again(name, times - 1)))
        return name

    async def _again(self, name: str, times: int) -> str:
        await self.has_ended.wait()
        return await self.leave_behind(name, times)

    @compute_method
    async def reading(self, name: str) -> str:
        return await self.reads(name)

    @command
    async def reads(self, name: str) -> str:
        return await self.reading(name)

    @command
    async def out(self, name: str, other: str) -> str:
        """Call another command by another host of the cluster: as a run of its own."""
        assert self.elsewhere is not None
        self.log.append(f"out {name}")
        return await self.elsewhere.back(other, name)

    @command
    async def back(self, name: str, other: str) -> str:
        assert self.elsewhere is not None
        return await self.elsewhere.out(other, name)

    @command
    async def aside(self, name: str, other: str) -> str:
        assert self.elsewhere is not None
        return await self.elsewhere.step(other)


app = App("dance", services=[Dance])


@asynccontextmanager
async def in_one_process() -> AsyncIterator[Dance]:
    async with app.local() as local:
        yield local.service(Dance)


@asynccontextmanager
async def in_a_cluster() -> AsyncIterator[Dance]:
    async with LocalCluster(app, shards=3, call_timeout_s=300.0) as cluster:
        Dance.elsewhere = cluster.service(Dance)
        yield cluster.service(Dance)


@pytest.fixture(params=[in_one_process, in_a_cluster])
async def dance(request: pytest.FixtureRequest) -> AsyncIterator[Dance]:
    Dance.log, Dance.left_behind, Dance.elsewhere = [], [], None
    Dance.has_ended = asyncio.Event()
    async with asyncio.timeout(FAR_BELOW_THE_TIMEOUT_S), request.param() as dance:
        yield dance


@pytest.fixture
async def cluster() -> AsyncIterator[LocalCluster]:
    Dance.log, Dance.left_behind = [], []
    async with LocalCluster(app, shards=3, call_timeout_s=300.0) as cluster:
        Dance.elsewhere = cluster.service(Dance)
        async with asyncio.timeout(FAR_BELOW_THE_TIMEOUT_S):
            yield cluster


async def test_commands_that_call_each_other(dance: Dance) -> None:
    with pytest.raises(CircularDependencyError) as caught:
        await dance.waltz("ann")
    assert str(caught.value) == "Dance.waltz('ann') → Dance.tango('ann') → Dance.waltz('ann')"
    assert Dance.log == ["waltz ann", "tango ann"], "each has run once"


async def test_a_command_that_calls_itself(dance: Dance) -> None:
    with pytest.raises(CircularDependencyError, match=r"^Dance.polka\('ann'\) → Dance.polka\('ann'\)$"):
        await dance.polka("ann")


async def test_the_path_begins_where_the_circle_begins_and_may_be_caught(dance: Dance) -> None:
    assert await dance.daring("ann") == "ann stumbles"
    assert await dance.daring("ann") == "ann stumbles", "nothing is left of the first time"


async def test_other_arguments_make_another_call(dance: Dance) -> None:
    assert await dance.count_down("ann", 5) == [5, 4, 3, 2, 1, 0]


async def test_a_command_may_have_the_same_part_more_than_once(dance: Dance) -> None:
    assert await dance.twice("ann") == ["ann"] * 3


async def test_a_task_that_a_command_has_left_behind_is_not_a_part_of_it(dance: Dance) -> None:
    assert await dance.leave_behind("ann", 3) == "ann"
    Dance.has_ended.set()
    while any(not task.done() for task in Dance.left_behind):
        await asyncio.gather(*Dance.left_behind)
    assert len(Dance.left_behind) == 3


async def test_no_way_leads_through_a_compute_method(dance: Dance) -> None:
    with pytest.raises(UsageError, match="a compute method cannot call it"):
        await dance.reads("ann")


def names(cluster: LocalCluster) -> list[str]:
    """A name for each shard."""
    found: dict[int, str] = {}
    for number in range(100):
        name = f"name{number}"
        found.setdefault(cluster.owner("Dance.step", name).address.shard_id, name)
    return [found[shard_id] for shard_id in sorted(found)]


async def test_runs_that_wait_for_each_others_turns(cluster: LocalCluster) -> None:
    ann, bob, _ = names(cluster)
    with pytest.raises(CircularDependencyError) as caught:
        await cluster.service(Dance).out(ann, bob)
    path = f"Dance.out('{ann}', '{bob}') → Dance.back('{bob}', '{ann}') → Dance.out('{ann}', '{bob}')"
    assert str(caught.value).startswith(path)
    assert Dance.log == [f"out {ann}"]


async def test_a_run_that_would_wait_for_its_callers_turn(cluster: LocalCluster) -> None:
    """It is another command, of the same key."""
    ann, bob, _ = names(cluster)
    with pytest.raises(CircularDependencyError, match=r"Dance.aside\(.*\) → Dance.step\(.*\): it would wait"):
        await cluster.service(Dance).aside(ann, ann)
    assert await cluster.service(Dance).aside(ann, bob) == bob


async def test_a_turn_that_a_stranger_holds_is_waited_for(cluster: LocalCluster) -> None:
    ann, bob, carl = names(cluster)
    dance = cluster.service(Dance)
    calls = [dance.aside(ann, carl), dance.aside(bob, carl), dance.step(carl), dance.aside(ann, carl)]
    assert await asyncio.gather(*calls) == [carl] * 4
