"""A node of a table is chosen by a number, without a list of all nodes."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.unit.graph.cells import Cells


async def test_random_numbers_choose_each_live_node_and_no_other(host: Callable[[Cells], Cells]) -> None:
    names = [f"cell{number}" for number in range(30)]
    cells = host(Cells(**dict.fromkeys(names, 1)))
    table = cells.cell.function.table
    assert table.sample(7) is None
    for name in names:
        await cells.cell(name)
    numbers = random.Random(1)

    def chosen() -> set[str]:
        nodes = [table.sample(numbers.randrange(2**52)) for _ in range(2000)]
        assert all(node.is_consistent for node in nodes)
        return {node.arguments[0] for node in nodes}

    assert chosen() == set(names)
    for name in names[::2]:
        await cells.cell.invalidate(name)
    assert chosen() == set(names[1::2])
    for name in names[3::2]:
        await cells.cell.invalidate(name)
    assert chosen() == {names[1]}
    await cells.cell.invalidate(names[1])
    assert table.sample(0) is None


async def test_a_sample_is_no_hit(host: Callable[[Cells], Cells]) -> None:
    cells = host(Cells(a=1))
    await cells.cell("a")
    before = cells.cell.function.table.hits
    assert cells.cell.function.table.sample(0) is cells.cell.peek("a")
    assert cells.cell.function.table.hits == before
