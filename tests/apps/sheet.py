"""A spreadsheet as an app: cells → rows → the sheet. Small, and its dependencies cross shards."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from fusion_cluster import App, ComputeService, command, compute_method, gather

CELLS_IN_ROW = 5


class Store:
    """What stands for the data: outside the graph, shared by all shards of a process, as a database is."""

    def __init__(self) -> None:
        self.cells: dict[int, int] = {}
        self.computed: list[str] = []
        # Set to hold up computations of cells at the point between reading and returning.
        self.gate: asyncio.Event | None = None

    def row(self, row: int) -> int:
        return sum(self.cells.get(cell, 0) for cell in cells_of(row))

    def sheet(self, rows: int) -> int:
        return sum(self.row(row) for row in range(rows))


def cells_of(row: int) -> range:
    return range(row * CELLS_IN_ROW, (row + 1) * CELLS_IN_ROW)


class Cells(ComputeService):
    store: ClassVar[Store]

    @compute_method
    async def get(self, cell: int) -> int:
        self.store.computed.append(f"cell {cell}")
        value = self.store.cells.get(cell, 0)
        if self.store.gate is not None:
            await self.store.gate.wait()
        await asyncio.sleep(0)
        return value

    @compute_method
    async def fail(self, cell: int) -> int:
        raise ValueError(f"cell {cell} is broken")

    @compute_method
    async def forever(self, cell: int) -> int:
        self.store.computed.append(f"forever {cell}")
        try:
            await asyncio.Event().wait()
        finally:
            self.store.computed.append(f"left {cell}")
        return 0

    @command
    async def put(self, cell: int, value: int) -> int:
        previous = self.store.cells.get(cell, 0)
        await asyncio.sleep(0)
        self.store.cells[cell] = value
        self.get.invalidate(cell)
        return previous

    @command
    async def put_many(self, first: int, values: list[int]) -> None:
        """Change cells of other shards too."""
        for cell, value in enumerate(values, first):
            self.store.cells[cell] = value
            self.get.invalidate(cell)


class Rows(ComputeService):
    cells: Cells

    @compute_method
    async def total(self, row: int) -> int:
        self.cells.store.computed.append(f"row {row}")
        return sum(await gather(*(self.cells.get(cell) for cell in cells_of(row))))


class Sheet(ComputeService):
    rows: Rows

    @compute_method
    async def total(self, rows: int) -> int:
        self.rows.cells.store.computed.append("sheet")
        return sum(await gather(*(self.rows.total(row) for row in range(rows))))


app = App("sheet", services=[Cells, Rows, Sheet])


def fresh_store() -> Store:
    """A store of its own for one test."""
    Cells.store = Store()
    return Cells.store
