"""A.17: cycles raise, with the path, and nothing hangs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from fusion_cluster.bodies.attaching import attach
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.errors import CircularDependencyError
from fusion_cluster.graph import Computed, Graph, GraphHosting, compute_method, gather, isolated
from fusion_cluster.graph.core.hot_path import dependencies_of
from tests.waiting import until

Host = Callable[[Any], Any]


async def value_of(computed: Computed[Any]) -> Any:
    return await computed


@dataclass(frozen=True)
class Unspeakable:
    number: int

    def __repr__(self) -> str:
        raise RuntimeError("no words")


class Circle(ComputeService):
    @compute_method
    async def following(self, one: Unspeakable) -> int:
        return await self.following(Unspeakable(1 - one.number))


class Maze(ComputeService):
    """Each place leads to the next ones in `ways`; a place may wait for `gates` first."""

    def __init__(self, **ways: str) -> None:
        self.ways = ways
        self.gates: dict[str, asyncio.Event] = {}
        self.log: list[str] = []

    @compute_method
    async def walk(self, place: str) -> int:
        self.log.append(place)
        if place in self.gates:
            await self.gates[place].wait()
        return 1 + sum([await self.walk(next_place) for next_place in self.ways.get(place, "")])

    @compute_method
    async def walk_at_once(self, place: str) -> int:
        return 1 + sum(await gather(*(self.walk_at_once(next_place) for next_place in self.ways.get(place, ""))))

    @compute_method
    async def walk_in_tasks(self, place: str) -> int:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(value_of(self.walk_in_tasks(p))) for p in self.ways.get(place, "")]
        return 1 + int(sum(task.result() for task in tasks))

    @compute_method
    async def walk_isolated(self, place: str) -> int:
        with isolated():
            return 1 + sum(await gather(*(self.walk_isolated(p) for p in self.ways.get(place, ""))))


async def test_a_computation_that_waits_for_itself(host: Host) -> None:
    maze: Maze = host(Maze(a="a"))
    with pytest.raises(CircularDependencyError, match=r"^Maze.walk\('a'\) → Maze.walk\('a'\)$"):
        await maze.walk("a")


async def test_a_cycle_over_several_computations_names_the_path(host: Host) -> None:
    maze: Maze = host(Maze(a="b", b="c", c="a"))
    path = r"Maze.walk\('c'\) → Maze.walk\('a'\) → Maze.walk\('b'\) → Maze.walk\('c'\)"
    with pytest.raises(CircularDependencyError, match=path):
        await maze.walk("a")
    assert maze.log == ["a", "b", "c"]


@pytest.mark.parametrize("method", ["walk_at_once", "walk_isolated"])
async def test_a_cycle_through_gather(host: Host, method: str) -> None:
    maze: Maze = host(Maze(a="xb", b="yc", c="za"))
    with pytest.raises(CircularDependencyError):
        await getattr(maze, method)("a")


@pytest.mark.parametrize("method", ["walk", "walk_at_once", "walk_in_tasks", "walk_isolated"])
async def test_the_wait_that_is_refused_depends_on_the_keys_alone(method: str) -> None:
    texts = set()
    for first in "abcd":
        graph, maze = Graph(), Maze(a="b", b="c", c="d", d="a")
        attach(maze, GraphHosting(graph))
        with pytest.raises((CircularDependencyError, ExceptionGroup)) as caught:
            await getattr(maze, method)(first)
        error: BaseException = caught.value
        while isinstance(error, ExceptionGroup):
            (error,) = error.exceptions
        texts.add(str(error))
        graph.validate()
        await graph.close()
    assert len(texts) == 1
    assert texts.pop().count(" → ") == 4


@pytest.mark.parametrize("first", list("abcd"))
async def test_what_a_refused_wait_was_for_is_computed_to_its_end(first: str) -> None:
    """Its result is needed: that of the one who was refused depends on it."""

    class Circular(ComputeService):
        @compute_method
        async def walk(self, place: str) -> int:
            log.append(place)
            try:
                return 1 + await self.walk(chr(ord("a") + (ord(place) - ord("a") + 1) % 4))
            except CircularDependencyError:
                return 1

    log: list[str] = []
    graph, circular = Graph(), Circular()
    attach(circular, GraphHosting(graph))
    await circular.walk(first)
    assert sorted([await circular.walk(place) for place in "abcd"]) == [1, 2, 3, 4]
    assert sorted(log) == list("abcd")
    graph.validate()
    computeds = [circular.walk(place) for place in "abcd"]
    circular.walk.invalidate("a")
    assert not any(computed.is_consistent for computed in computeds)
    await graph.close()


async def test_a_cycle_of_keys_that_cannot_be_shown(host: Host) -> None:
    circle: Circle = host(Circle())
    with pytest.raises(CircularDependencyError, match=r"following\(<Unspeakable>\) → Circle.following"):
        await circle.following(Unspeakable(0))


async def test_a_cycle_through_tasks_that_a_body_made(host: Host) -> None:
    maze: Maze = host(Maze(a="xb", b="a"))
    with pytest.raises(ExceptionGroup) as caught:
        await maze.walk_in_tasks("a")
    assert caught.group_contains(CircularDependencyError)


async def test_a_cycle_that_two_concurrent_computations_close(host: Host, graph: Graph) -> None:
    maze: Maze = host(Maze(a="b", b="a"))
    maze.gates = {"a": asyncio.Event(), "b": asyncio.Event()}
    tasks = [asyncio.create_task(value_of(maze.walk(place))) for place in "ab"]
    await until(lambda: len(maze.log) == 2)
    for gate in maze.gates.values():
        gate.set()
    results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
    assert [type(result) for result in results] == [CircularDependencyError] * 2
    assert " → " in str(results[0])
    graph.validate()


async def test_the_error_of_a_cycle_is_out_of_date_when_the_others_no_longer_close_it(host: Host) -> None:
    class Switched(ComputeService):
        ways: str = "a"

        @compute_method
        async def way(self) -> str:
            return self.ways

        @compute_method
        async def a(self) -> str:
            await both.wait()
            return "a" + await self.b()

        @compute_method
        async def b(self) -> str:
            started.append("b")
            both.set()
            return "b" + await self.a() if await self.way() == "a" else "b"

    both: asyncio.Event = asyncio.Event()
    started: list[str] = []
    switched: Switched = host(Switched())
    results = await asyncio.gather(value_of(switched.a()), value_of(switched.b()), return_exceptions=True)
    assert all(isinstance(result, CircularDependencyError) for result in results)
    failed = switched.a.peek()
    assert failed is not None
    assert failed.error is not None
    switched.ways = ""
    await switched.way.invalidate()
    assert failed.is_consistent is False
    assert await switched.a() == "ab"


async def test_a_cycle_that_a_held_outdated_computed_would_close_is_found_in_its_successor(host: Host) -> None:
    class Ring(ComputeService):
        @compute_method
        async def first(self) -> int:
            return await self.second()

        @compute_method
        async def second(self) -> int:
            entered.set()
            await outdated.wait()
            return await handle

    entered, outdated = asyncio.Event(), asyncio.Event()
    ring: Ring = host(Ring())
    handle = ring.first()
    handle.join(lambda _: None)
    await entered.wait()
    second = ring.second()
    handle.invalidate()
    outdated.set()
    with pytest.raises(CircularDependencyError):
        await second
    assert not handle.is_consistent
    with pytest.raises(CircularDependencyError):
        await ring.first()


async def test_a_cycle_whose_computations_are_evicted_all_the_time_does_not_go_on_for_ever() -> None:
    graph, maze = Graph(max_nodes=1), Maze(a="b", b="a")
    attach(maze, GraphHosting(graph))
    with pytest.raises(CircularDependencyError, match=r"Maze.walk\('b'\) → Maze.walk\('a'\)"):
        await maze.walk("a")
    assert 2 < len(maze.log) < 50
    graph.validate()
    await graph.close()


async def test_a_diamond_is_no_cycle(host: Host) -> None:
    maze: Maze = host(Maze(a="bc", b="d", c="d", d="e"))
    assert await maze.walk_at_once("a") == 7
    assert await maze.walk("a") == 7
    assert len(dependencies_of(maze.walk("a"))) == 2


async def test_a_task_that_a_body_leaves_behind_under_isolated_may_read_that_body(host: Host) -> None:
    class Refreshing(ComputeService):
        @compute_method
        async def get(self) -> int:
            with isolated():
                tasks.append(asyncio.create_task(value_of(self.get())))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return 1

    tasks: list[asyncio.Task[int]] = []
    refreshing: Refreshing = host(Refreshing())
    assert await refreshing.get() == 1
    assert await tasks[0] == 1
