"""Users' own scenarios in the simulator."""

from __future__ import annotations

import asyncio

import pytest

from fusion_cluster.errors import FusionError, ShardUnavailable
from fusion_cluster.testing import SimulationFailed, World, WorldSettings, simulate
from tests.apps.sheet import Cells, Sheet, app, fresh_store

ROWS = 2


async def put(world: World, value: int) -> None:
    await world.run("driver-0", lambda host: host.service(Cells).put(1, value))


async def change_while_a_shard_crashes(world: World) -> None:
    fresh_store()
    written = 0
    for value in range(1, 6):
        if value == 3:
            world.crash("shard-1")
        try:
            await put(world, value)
        except FusionError:
            continue
        written = value
        assert await world.run("driver-1", lambda host: host.service(Sheet).total(ROWS)) >= written
    await world.healed()
    assert written == 5
    assert await world.run("shard-0", lambda host: host.service(Sheet).total(ROWS)) == 5


def test_a_scenario_runs_for_each_seed_and_repeats_itself() -> None:
    settings = WorldSettings(drivers=2)
    traces = simulate(app, change_while_a_shard_crashes, seeds=range(10), settings=settings)
    assert len(set(traces.values())) == 10
    assert simulate(app, change_while_a_shard_crashes, seeds=[7], settings=settings) == {7: traces[7]}


def test_a_scenario_that_fails_names_its_seed() -> None:
    async def scenario(world: World) -> None:
        assert world.seed < 3, "three is too much"

    with pytest.raises(SimulationFailed, match=r"seed 3: .*three is too much") as failed:
        simulate(app, scenario)
    assert failed.value.seed == 3


def test_a_scenario_that_waits_for_ever_fails() -> None:
    async def scenario(world: World) -> None:
        async with asyncio.timeout(100):
            await asyncio.Event().wait()

    with pytest.raises(SimulationFailed, match="TimeoutError"):
        simulate(app, scenario, seeds=[1])


def test_a_call_on_a_machine_that_crashes_ends() -> None:
    async def scenario(world: World) -> None:
        gate = fresh_store().gate = asyncio.Event()
        call = world.loop.create_task_on(
            world.loop.outside, world.run("shard-0", lambda host: host.service(Sheet).total(ROWS)), name="a call"
        )
        await asyncio.sleep(0.5)
        world.crash("shard-0")
        with pytest.raises(ShardUnavailable, match="has crashed"):
            await call
        with pytest.raises(ShardUnavailable, match="does not serve"):
            await world.run("shard-0", lambda host: host.service(Sheet).total(ROWS))
        gate.set()
        await world.healed()
        assert await world.run("shard-0", lambda host: host.service(Sheet).total(ROWS)) == 0

    simulate(app, scenario, seeds=range(3))
