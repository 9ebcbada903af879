"""A service whose results are late because it was asked for; its time is virtual."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec

from fusion_cluster.bodies.attaching import attach
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.graph import Computed, Graph, GraphHosting, compute_method
from fusion_cluster.graph.why.cause import EVICTED, Cause
from fusion_cluster.testing import run_in_virtual_time
from tests.unit.graph.cells import Gate

P = ParamSpec("P")

DELAY_S = 2.0
"""Of `smooth`, and of `level`."""


class Gauges(ComputeService):
    """Gauges, and what is made of them. `log` is what was computed, in order; `gates` hold up what is named there."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {"a": 1, "b": 10}
        self.log: list[str] = []
        self.gates: dict[str, Gate] = {}

    def gate(self, label: str) -> Gate:
        gate = self.gates[label] = Gate()
        return gate

    async def step(self, label: str) -> None:
        self.log.append(label)
        gate = self.gates.pop(label, None)
        if gate is not None:
            await gate.pass_through()

    def put(self, name: str, value: Any) -> None:
        """Change a gauge the way a command does: first the data, then the invalidation."""
        self.values[name] = value
        self.gauge.invalidate(name)

    def runs(self, label: str) -> int:
        return self.log.count(label)

    @compute_method
    async def gauge(self, name: str) -> Any:
        value = self.values[name]
        await self.step(f"gauge {name}")
        if isinstance(value, Exception):
            raise value
        return value

    @compute_method(invalidation_delay=DELAY_S)
    async def smooth(self, name: str) -> Any:
        value = await self.gauge(name)
        await self.step(f"smooth {name}")
        return value

    @compute_method
    async def drawn(self, name: str) -> str:
        value = await self.smooth(name)
        await self.step(f"drawn {name}")
        return f"<{value}>"

    @compute_method(consolidation_delay=DELAY_S)
    async def level(self, name: str) -> Any:
        """The tens; anything else but a number is given as it is."""
        value = await self.gauge(name)
        await self.step(f"level {name}")
        return value // 10 if isinstance(value, int) else value

    @compute_method
    async def shown(self, name: str) -> str:
        value = await self.level(name)
        await self.step(f"shown {name}")
        return f"[{value}]"


def in_virtual_time(
    test: Callable[Concatenate[Gauges, Graph, P], Coroutine[Any, Any, None]],
) -> Callable[P, None]:
    """Run a test of gauges, and of the graph that they are alone in, in virtual time; validate and close the graph."""

    async def main(*args: P.args, **kwargs: P.kwargs) -> None:
        graph, gauges = Graph(), Gauges()
        attach(gauges, GraphHosting(graph))
        try:
            await test(gauges, graph, *args, **kwargs)
            graph.validate()
        finally:
            await graph.close()
        graph.validate()
        assert graph.stats.nodes == 0

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        run_in_virtual_time(main(*args, **kwargs))

    signature = inspect.signature(test)
    taken = list(signature.parameters.values())[2:]  # by parameters of the test, not by gauges and graph
    run.__signature__ = signature.replace(parameters=taken)  # type: ignore[attr-defined]
    return run


def evict(node: Computed[Any]) -> None:
    """Invalidate a node as the graph does to make room."""
    node.function.graph.invalidate_now(node, Cause(EVICTED))


async def seconds_until(awaitable: Coroutine[Any, Any, Any]) -> float:
    """Wait; return how long it took."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    await awaitable
    return loop.time() - began_s
