"""A service whose bodies say for how long their results stand; its time is virtual, the clock on the wall too."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

from fusion_cluster.bodies.attaching import attach
from fusion_cluster.bodies.expiry import expire_after
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.graph import Computed, Graph, GraphHosting, compute_method, isolated
from fusion_cluster.runtime import LoopClock
from fusion_cluster.testing import VirtualRuntime, run_in_virtual_time
from tests.unit.graph.cells import Gate

Say = Callable[[], object]


class Terms(ComputeService):
    """`say[name]` is what the bodies of `name` call; `gates` hold them up afterwards; `log` is what was computed."""

    def __init__(self, clock: LoopClock) -> None:
        self.clock = clock
        self.say: dict[str, Say] = {}
        self.log: list[str] = []
        self.gates: dict[str, Gate] = {}

    def gate(self, name: str) -> Gate:
        gate = self.gates[name] = Gate()
        return gate

    async def run(self, name: str) -> int:
        self.log.append(name)
        count = len(self.log)
        self.say.get(name, lambda: None)()
        gate = self.gates.pop(name, None)
        if gate is not None:
            await gate.pass_through()
        return count

    @compute_method
    async def term(self, name: str) -> int:
        return await self.run(name)

    @compute_method
    async def shown(self, name: str) -> str:
        return f"<{await self.term(name)}>"

    @compute_method
    def plain(self, name: str) -> str:
        self.log.append(name)
        self.say[name]()
        return name

    @compute_method
    async def aside(self, name: str) -> int:
        """Say it in a place that captures no dependencies, and in a task that belongs to the body."""
        with isolated():
            return await asyncio.create_task(self.run(name))

    @compute_method(auto_invalidation_delay=10)
    async def ten_at_most(self, name: str) -> int:
        return await self.run(name)

    @compute_method(error_delay=10)
    async def fail(self, name: str) -> int:
        await self.run(name)
        raise ValueError(name)

    @compute_method(invalidation_delay=3)
    async def late(self, name: str) -> int:
        return await self.run(name)

    @compute_method(consolidation_delay=1)
    async def steady(self, name: str) -> int:
        self.log.append(name)
        self.say[name]()
        return self.log.count(name) // 3

    @compute_method
    async def watched(self, name: str) -> str:
        return f"<{await self.steady(name)}>"

    @compute_method(offload="thread")
    def threaded(self, name: str) -> str:
        self.log.append(name)
        self.say[name]()
        return name

    @compute_method(offload="thread")
    async def threaded_async(self, name: str) -> str:
        self.log.append(name)
        self.say[name]()
        await asyncio.sleep(0)
        return name

    def after(self, name: str, *delays_s: float) -> None:
        """Let the body of `name` call `expire_after` with these."""

        def say() -> None:
            for delay_s in delays_s:
                expire_after(delay_s)

        self.say[name] = say


def in_virtual_time(test: Callable[[Terms, Graph], Coroutine[object, object, None]]) -> Callable[[], None]:
    """Run a test of terms, and of the graph that they are alone in, in virtual time; validate and close the graph."""

    async def main() -> None:
        runtime = VirtualRuntime()
        graph, terms = Graph(runtime=runtime), Terms(runtime.wall_clock)
        attach(terms, GraphHosting(graph))
        try:
            await test(terms, graph)
            graph.validate()
        finally:
            await graph.close()
        graph.validate()

    @functools.wraps(test)
    def run() -> None:
        run_in_virtual_time(main())

    del run.__wrapped__
    return run


async def seconds_until_invalidated(computed: Computed[Any]) -> float:
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    await computed.when_invalidated()
    return loop.time() - began_s


def waiting_timers() -> int:
    loop: Any = asyncio.get_running_loop()
    return sum(not timer.cancelled() for timer in loop._scheduled)
