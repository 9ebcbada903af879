"""A.1: N readers racing one writer all end on the final value, for every update delayer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

import pytest

from fusion_cluster import ComputeService, compute_method
from fusion_cluster.bodies.attaching import attach
from fusion_cluster.graph import Graph, GraphHosting
from fusion_cluster.state import (
    BackoffDelayer,
    ComputedState,
    CutShortDelayer,
    FixedDelayer,
    MutableState,
    UpdateDelayer,
    UserActions,
)
from fusion_cluster.testing import run_in_virtual_time

WRITES = 60
FINAL = WRITES


class Immediate:
    """Waits for nothing."""

    async def delay(self, retry_count: int) -> None:
        pass


class Erratic:
    """Waits for as long as it likes, and fails now and then."""

    def __init__(self, random: Random) -> None:
        self.random = random

    async def delay(self, retry_count: int) -> None:
        if self.random.random() < 0.1:
            raise ArithmeticError("a delayer that fails")
        await asyncio.sleep(self.random.choice([0.0, 0.001, 0.1, 5.0]))


DELAYERS: dict[str, Callable[[UserActions, Random], UpdateDelayer]] = {
    "fixed 0": lambda actions, random: FixedDelayer(),
    "fixed 0.01": lambda actions, random: FixedDelayer(0.01, retry_delay_s=0.0),
    "fixed 3": lambda actions, random: FixedDelayer(3.0),
    "backoff": lambda actions, random: BackoffDelayer(random=random.random),
    "quick backoff": lambda actions, random: BackoffDelayer(0.5, 0.01, 1.5, 2.0, 0.5, random.random),
    "cut short, fixed": lambda actions, random: CutShortDelayer(FixedDelayer(3.0), actions),
    "cut short, backoff": lambda actions, random: CutShortDelayer(BackoffDelayer(0.2), actions, min_delay_s=0.01),
    "immediate": lambda actions, random: Immediate(),
    "erratic": lambda actions, random: Erratic(random),
    "cut short, erratic": lambda actions, random: CutShortDelayer(Erratic(random), actions),
}


class Readings(ComputeService):
    """What lies between the source and the states: slow, and for a while unreliable."""

    def __init__(self, source: MutableState[int], random: Random) -> None:
        self.source = source
        self.random = random
        self.failures_left = 15

    async def take(self) -> int:
        value = self.source.value  # read first, so that it gets old
        await asyncio.sleep(self.random.choice([0.0, 0.001, 0.02, 0.3]))
        if self.failures_left and self.random.random() < 0.2:
            self.failures_left -= 1
            raise self.random.choice([ConnectionError(), TimeoutError(), ValueError()])
        return value

    @compute_method(error_delay=2.0)
    async def cached(self, reader: int) -> int:
        return await self.take()


async def write(
    source: MutableState[int], states: list[ComputedState[int]], actions: UserActions, random: Random
) -> None:
    for value in range(1, FINAL + 1):
        await asyncio.sleep(random.choice([0.0, 0.0005, 0.01, 0.05, 1.0]))
        match random.randrange(12):
            case 0:
                actions.notify()
            case 1:
                random.choice(states).update_now()
            case 2:
                random.choice(states).invalidate()
            case 3:
                async with actions.acting():
                    await asyncio.sleep(random.choice([0.0, 0.2]))
        source.set(value)


async def follow(state: ComputedState[int]) -> list[int]:
    """Look at what is shown until it is the final value; return all the values seen."""
    seen: list[int] = []
    async for computed in state.changes():
        if computed.error is None:
            seen.append(computed.value)
            if computed.value == FINAL:
                break
    return seen


async def read_at_random_times(state: ComputedState[int], random: Random) -> None:
    value = -1
    while value != FINAL:
        await asyncio.sleep(random.choice([0.001, 0.1, 1.0]))
        try:
            value = await state
        except (ConnectionError, TimeoutError, ValueError):
            continue


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", DELAYERS)
def test_readers_racing_one_writer_all_end_on_the_final_value(name: str, seed: int) -> None:
    async def main() -> None:
        random, source, actions, graph = Random(f"{name} {seed}"), MutableState(0), UserActions(), Graph()
        readings = Readings(source, random)
        attach(readings, GraphHosting(graph))
        delayer = DELAYERS[name](actions, random)
        direct = [ComputedState(readings.take, update_delayer=delayer) for _ in range(3)]
        through = [
            ComputedState(lambda reader=reader: readings.cached(reader % 2), update_delayer=delayer)  # type: ignore[misc]
            for reader in range(3)
        ]
        upon = [
            ComputedState(lambda state=state: state, update_delayer=delayer)  # type: ignore[misc]
            for state in (direct[0], through[0])
        ]
        states: list[ComputedState[int]] = [*direct, *through, *upon]
        for state in states:
            state.start()
        async with asyncio.timeout(1000), asyncio.TaskGroup() as tasks:
            tasks.create_task(write(source, states, actions, random))
            following = [tasks.create_task(follow(state)) for state in (*states, *states)]
            for state in (direct[1], through[1]):
                tasks.create_task(read_at_random_times(state, random))
        for task in following:
            seen = task.result()
            assert seen[-1] == FINAL
        snapshots = [state.snapshot for state in states]
        await asyncio.sleep(100)
        for state, snapshot in zip(states, snapshots, strict=True):
            assert state.value == FINAL
            assert state.computed.is_consistent
            assert state.snapshot is snapshot, "it was updated without need"
        graph.validate()
        for state in states:
            await state.close()
        await graph.close()

    run_in_virtual_time(main())
