"""A till, as code without an event loop uses it."""

from __future__ import annotations

import asyncio
import threading

from fusion_cluster import App, ComputeService, command, compute_method, gather, value_of
from fusion_cluster.errors import FusionError
from fusion_cluster.state import MutableState


class OutOfPaperError(Exception):
    pass


class Till(ComputeService):
    def __init__(self) -> None:
        self.sums: dict[str, int] = {}
        self.rate = MutableState(2)
        self.computed: list[str] = []
        self.cancelled = threading.Event()
        self.entered = threading.Event()

    @compute_method
    async def sum_of(self, till: str) -> int:
        """What is in a till."""
        self.computed.append(till)
        await asyncio.sleep(0)
        return self.sums.get(till, 0)

    @compute_method
    async def total(self, tills: tuple[str, ...], *, rated: bool = False) -> int:
        return sum(await gather(*(self.sum_of(till) for till in tills))) * (self.rate.value if rated else 1)

    @compute_method
    async def receipt(self, till: str) -> str:
        if till == "usage":
            raise FusionError("no", field="till")
        raise OutOfPaperError(till)

    @compute_method
    async def never(self) -> None:
        self.entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()

    @compute_method(offload="thread")
    def asks_from_a_thread(self) -> int:
        return value_of(PRIVATE[0].sum_of("a"))

    @compute_method
    async def gives_up(self) -> None:
        raise asyncio.CancelledError

    @command
    async def put(self, till: str, amount: int) -> int:
        """Put money in."""
        self.sums[till] = self.sums.get(till, 0) + amount
        self.sum_of.invalidate(till)
        return self.sums[till]

    @command
    async def stuck(self) -> None:
        self.entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()

    def doubled(self, till: str) -> object:
        return self.sum_of(till)

    async def counted(self, till: str) -> int:
        return await self.sum_of(till) + 1000


class Shop(ComputeService):
    till: Till


PRIVATE: list[Till] = []
"""Blocking services that bodies get hold of, though they should not."""

app = App("till", services=[Till, Shop])
