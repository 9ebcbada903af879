"""A small service whose computations can be watched and held up."""

from __future__ import annotations

import asyncio

from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.graph import compute_method, gather


class Gate:
    """Holds up a computation: `entered` tells that it has come, `open()` lets it go on."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self._opened = asyncio.Event()

    def open(self) -> None:
        self._opened.set()

    async def pass_through(self) -> None:
        self.entered.set()
        await self._opened.wait()


class Cells(ComputeService):
    """Cells and what is made of them. `log` is what was computed, in order; `gates` hold up what is named there."""

    def __init__(self, **values: int) -> None:
        self.values = values
        self.log: list[str] = []
        self.gates: dict[str, Gate] = {}

    def gate(self, label: str) -> Gate:
        gate = self.gates[label] = Gate()
        return gate

    async def _step(self, label: str) -> None:
        self.log.append(label)
        gate = self.gates.pop(label, None)
        if gate is not None:
            await gate.pass_through()

    async def put(self, name: str, value: int) -> None:
        """Change a cell the way a command does: first the data, then the invalidation."""
        self.values[name] = value
        await self.cell.invalidate(name)

    @compute_method
    async def cell(self, name: str) -> int:
        value = self.values[name]  # read before the gate, so that what is held up gets old
        await self._step(name)
        return value

    @compute_method
    async def double(self, name: str) -> int:
        cell = await self.cell(name)
        await self._step(f"2*{name}")
        return 2 * cell

    @compute_method
    async def total(self, names: tuple[str, ...]) -> int:
        cells = await gather(*(self.cell(name) for name in names))
        await self._step("+".join(names))
        return sum(cells)
