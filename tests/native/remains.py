"""What a piece of work leaves behind: blocks of memory, and references to objects that were there before."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from fusion_cluster.graph import Graph

WARM_UP = 500
MOST_BLOCKS = 300
"""Caches, free lists and resized tables of the interpreter; a leak of one block in each round is far more."""

Round = Callable[[int], Awaitable[None]]


@dataclass(frozen=True)
class Remains:
    """What is there more than before.

    Attributes:
        blocks: blocks of Python's allocator.
        references: by the name given to an object, how many more references there are to it.
    """

    blocks: int
    references: dict[str, int]


async def remains_of(
    graph: Graph, one_round: Round, rounds: int, watched: Mapping[str, object] | None = None
) -> Remains:
    """Call `one_round(number)` with `rounds` numbers after a warm-up, empty `graph`, and tell what is left behind."""
    watched = watched or {}
    for number in range(WARM_UP):
        await one_round(number)
    blocks, references = await _settled(graph, watched)
    for number in range(WARM_UP, WARM_UP + rounds):
        await one_round(number)
    blocks_after, references_after = await _settled(graph, watched)
    more = {name: references_after[name] - count for name, count in references.items()}
    return Remains(blocks_after - blocks, {name: count for name, count in more.items() if count})


async def _settled(graph: Graph, watched: Mapping[str, object]) -> tuple[int, dict[str, int]]:
    for _ in range(3):
        await asyncio.sleep(0)  # computations that have ended leave their tasks in the next turn
    graph.validate()
    graph.invalidate_all()
    gc.collect()
    references = {name: sys.getrefcount(item) for name, item in watched.items()}
    return sys.getallocatedblocks(), references
