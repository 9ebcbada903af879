"""Mailboxes on several shards, whose letters depend on who reads, sometimes, and on what lies in other boxes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import ClassVar

from fusion_cluster import App, ComputeService, command, compute_method, gather, principal


class Post:
    """What stands for the data.

    Attributes:
        private: the boxes that say something else to everybody.
        beneath: box -> the boxes that it is made of; each has a larger number.
        stamps: box -> what lies in it.
        log: the boxes that were computed, with the reader where they looked at it.
    """

    def __init__(self) -> None:
        self.private: set[int] = set()
        self.beneath: dict[int, Sequence[int]] = {}
        self.stamps: dict[int, int] = {}
        self.log: list[str] = []

    def expected(self, box: int, reader: object) -> str:
        """What a reader is to be given."""
        parts = ",".join(self.expected(other, reader) for other in self.beneath.get(box, ()))
        return f"{box}#{self.stamps.get(box, 0)}{f'@{reader}' if box in self.private else ''}({parts})"


class Boxes(ComputeService):
    post: ClassVar[Post]

    @compute_method
    async def read(self, box: int) -> str:
        """All boxes by one method: when one varies, all do."""
        return await self._letter(box, self.read)

    @compute_method
    async def even(self, box: int) -> str:
        return await self._letter(box, self.even if box % 3 else self.odd)

    @compute_method
    async def odd(self, box: int) -> str:
        return await self._letter(box, self.even)

    @compute_method(consolidation_delay=0.0)
    async def calm(self, box: int) -> str:
        return await self._letter(box, self.calm)

    async def _letter(self, box: int, others: object) -> str:
        post = self.post
        stamp = post.stamps.get(box, 0)
        await asyncio.sleep(0)
        reader = ""
        if box in post.private:
            reader = f"@{principal()}"
        parts = await gather(*(others(other) for other in post.beneath.get(box, ())))  # type: ignore[operator]
        post.log.append(f"{box}{reader}")
        return f"{box}#{stamp}{reader}({','.join(parts)})"

    @command
    async def put(self, box: int) -> None:
        self.post.stamps[box] = self.post.stamps.get(box, 0) + 1
        for method in (self.read, self.even, self.odd, self.calm):
            method.invalidate(box)

    @command
    async def whose(self, box: int) -> object:
        return principal()


app = App("mailboxes", services=[Boxes])


def fresh_post() -> Post:
    Boxes.post = Post()
    return Boxes.post
