"""Pages of text that weigh much, and graphs that have no room for many of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from fusion_cluster.bodies.attaching import attach
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.graph import Computed, Graph, GraphHosting, compute_method, gather
from fusion_cluster.graph.computing.retention import NODE_BYTES

LARGE: Final = 1000
MAX_BYTES: Final = 5 * (NODE_BYTES + LARGE)


class Pages(ComputeService):
    """Pages of text, and what is made of them. `log` is what was computed, in order."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.sizes: dict[int, int] = {}
        self.gate: asyncio.Event | None = None

    @compute_method
    async def text(self, page: int) -> bytes:
        self.log.append(f"text {page}")
        if self.gate is not None:
            await self.gate.wait()
        return bytes(self.sizes.get(page, LARGE))

    @compute_method
    async def length(self, page: int) -> int:
        text = await self.text(page)
        self.log.append(f"length {page}")
        return len(text)

    @compute_method
    async def total(self, pages: tuple[int, ...]) -> int:
        return sum(len(text) for text in await gather(*(self.text(page) for page in pages)))

    @compute_method(min_cache_duration=10)
    async def kept(self, page: int) -> bytes:
        return bytes(LARGE)


def size_of(value: object) -> int:
    return len(value) if isinstance(value, bytes) else 0


def hosted(graph: Graph) -> Pages:
    pages = Pages()
    attach(pages, GraphHosting(graph))
    return pages


def watch(computed: Computed[Any], observer: Callable[[Computed[Any]], object] = lambda _: None) -> Computed[Any]:
    computed.on_invalidated(observer)
    return computed


async def value_of(computed: Computed[Any]) -> Any:
    return await computed


def is_paged_out(computed: Computed[Any]) -> bool:
    return computed.is_consistent and not computed.has_output
