"""Where the property test of the graph plays: a loop in virtual time, a graph, a model, and who has read what."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

from fusion_cluster.bodies.attaching import attach
from fusion_cluster.graph import Computed, Graph, GraphHosting
from fusion_cluster.testing import VirtualTimeLoop
from tests.property.graph_model import ATOMS, LAG_S, LAGGING, NAMES, Model, Value
from tests.property.graph_parties import Observation, Read, Refused
from tests.property.graph_sheet import Sheet


class GraphStage:
    """One graph, the model of it, and the parties that use it."""

    def set_up(self, max_nodes: int, max_bytes: float) -> None:
        logging.disable(logging.ERROR)  # of observers and estimates that raise
        self.loop = VirtualTimeLoop()
        self.failures: list[BaseException] = []
        self.graph = Graph(max_nodes=max_nodes, max_bytes=max_bytes, size_of=self.size_of)
        self.model = Model(self.loop.time)
        self.sheet = Sheet(self.model)
        attach(self.sheet, GraphHosting(self.graph))
        self.pending: list[Read] = []
        self.observations: list[Observation] = []
        self.on_size: Callable[[], int] | None = None

    def nodes(self) -> Iterator[Computed[Any]]:
        return iter(list(self.graph.nodes()))

    def name_of(self, node: Computed[Any]) -> str:
        method, arguments = node.function.method_name, node.arguments
        if method in ("cell", "derived"):
            return str(arguments[0])
        if method == "loose":
            return next(name for name in NAMES if name.startswith("loose") and node is self.find(name))
        if method in ("awkward", "pair"):
            return f"{method}:{getattr(arguments[0], 'name', arguments[0])}"
        return ":".join([method, *map(str, arguments)])

    def find(self, name: str) -> Computed[Any]:
        method, arguments = self.sheet.spelled(name)
        node: Computed[Any] = method.function.table.get(method.function.signature.bind(arguments, {}))
        return node

    def at_least(self, name: str) -> dict[str, int]:
        """What whoever begins to read now must be given at least."""
        if "tidal" in name:
            return {}
        if LAGGING & set(name.split()):
            return {atom: min(self.model.lately(atom, LAG_S)) for atom in ("x0", "x1")}
        return dict(self.model.versions)

    def deed(self, deed: int, other: str) -> Callable[[], object]:
        """Return something for an observer, a comparison or an estimate to do."""

        def act() -> None:
            try:
                stats = self.graph.stats
                assert stats.nodes <= self.graph.max_nodes
                assert stats.bytes is None or stats.bytes <= self.graph.max_bytes
                if deed == 1:
                    self.sheet.invalidate(other)
                elif deed == 2:
                    self.sheet.computed(other)
                elif deed == 3:
                    computed = self.sheet.computed(other)
                    computed.on_invalidated(lambda _: None)
                elif deed == 4:
                    self.sheet.state.set(self.model.change("state"))
                elif deed == 5 and other in ATOMS:
                    self.model.change(other)
                    self.sheet.invalidate(other)
            except BaseException as error:
                if not self.graph.is_closed:
                    self.failures.append(error)
            if deed == 6:
                raise Refused

        return act

    def size_of(self, value: Value) -> int:
        on_size, self.on_size = self.on_size, None
        return 100 * len(value) if on_size is None else on_size()

    def begin_read(self, name: str, coroutine: Any) -> Read:
        read = Read(name, self.at_least(name), self.loop.create_task(coroutine))
        self.pending.append(read)
        return read

    def run(self, awaitable: Any) -> None:
        async def main() -> None:
            await awaitable

        self.loop.run_until_complete(main())

    def turn(self) -> None:
        self.run(asyncio.sleep(0))

    def settle(self) -> None:
        """Let everything run until all that can end has ended."""
        for _ in range(4_000):
            for gate in list(self.sheet.stopped):
                if not gate.done():
                    gate.set_result(None)
            if not self.sheet.stopped and not self.sheet.background and all(read.is_done for read in self.pending):
                return
            self.turn()
