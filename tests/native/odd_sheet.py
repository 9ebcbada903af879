"""Compute methods of every shape, with arguments and values that reach back into the graph that is busy with them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.errors import CircularDependencyError, ShardUnavailable
from fusion_cluster.graph import Computed, compute_method, gather, isolated

NUMBERS = 12
EXPECTED = (ValueError, ShardUnavailable, CircularDependencyError)

Reentry = Callable[[bool], object]


class Reentrant:
    """Calls `reentry` from within what C code calls without a thought; never from within itself.

    `reentry` is told whether it may make nodes: not while one is looked up, or taken out of the registry.
    """

    reentry: ClassVar[Reentry | None] = None

    @classmethod
    def reenter(cls, may_create: bool) -> None:
        reentry, Reentrant.reentry = Reentrant.reentry, None
        if reentry is not None:
            try:
                reentry(may_create)
            finally:
                Reentrant.reentry = reentry


@dataclass(frozen=True, eq=False)
class Touchy(Reentrant):
    """An argument whose hashes collide, and whose comparison changes the graph in which it is looked up."""

    number: int

    def __hash__(self) -> int:
        self.reenter(may_create=False)
        return self.number % 3

    def __eq__(self, other: object) -> bool:
        self.reenter(may_create=False)
        return isinstance(other, Touchy) and self.number == other.number


class Parting(Reentrant):
    """A value whose end, where `is_harsh`, changes the graph that let go of it."""

    is_harsh: ClassVar[bool] = False

    def __del__(self) -> None:
        if self.is_harsh:
            self.reenter(may_create=True)


class Text(str):
    """A string that is none, to the eyes of C code that looks at types."""

    __slots__ = ()


class Sheet(ComputeService):
    """Compute methods of every shape of signature, and of every way to end."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    @compute_method
    async def constant(self) -> Parting:
        return Parting()

    @compute_method
    async def leaf(self, number: int) -> Parting:
        if self.chance.random() < 0.3:
            await asyncio.sleep(0)
        return Parting()

    @compute_method(min_cache_duration=0.01, auto_invalidation_delay=0.02)
    async def named(self, name: str, *, scale: float = 1.0) -> Parting:
        return Parting()

    @compute_method
    def plain(self, number: int) -> Parting:
        return Parting()

    @compute_method(invalidation_delay=0.01)
    async def delayed(self, number: int) -> Parting:
        return await self.leaf(number)

    @compute_method(consolidation_delay=0.0)
    async def level(self, number: int) -> bool:
        """Seldom another value, whatever happens below."""
        await gather(self.leaf(number), self.plain(number), self.delayed(number))
        return self.chance.random() < 0.1

    @compute_method
    async def above(self, number: int) -> Parting:
        await gather(self.level(number), self.level(number + 1), self.failing(number), return_exceptions=True)
        return Parting()

    @compute_method
    async def pair(self, first: int, second: str = "second") -> Parting:
        return await self.leaf(first)

    @compute_method
    async def triple(self, first: object, second: object = None, third: int | float = 3) -> Parting:
        return Parting()

    @compute_method
    async def touchy(self, key: Touchy) -> Parting:
        return await self.leaf(key.number)

    @compute_method
    async def tangle(self, number: int) -> Parting:
        """Whatever comes up, also itself."""
        for _ in range(self.chance.randrange(4)):
            await self.any_read()
        with isolated():
            await self.leaf(0)
        results = await gather(*(self.any_read() for _ in range(self.chance.randrange(4))), return_exceptions=True)
        if any(isinstance(result, BaseException) for result in results):
            raise self.chance.choice((ValueError, ShardUnavailable))(str(number))
        return Parting()

    @compute_method(error_delay=0.01, transient_error_delay=0.005)
    async def failing(self, number: int) -> Parting:
        await self.leaf(number)
        raise self.chance.choice((ValueError, ShardUnavailable))(str(number))

    @compute_method
    async def fickle(self, number: int) -> Parting:
        """Invalidates itself while it is computed, or is cancelled from within."""
        await self.leaf(number)
        if self.chance.random() < 0.5:
            self.fickle.invalidate(number)
        elif self.chance.random() < 0.5:
            raise asyncio.CancelledError
        return Parting()

    def any_read(self) -> Computed[Any]:
        number = self.chance.randrange(NUMBERS)
        match self.chance.randrange(16):
            case 0:
                return self.constant()
            case 1:
                return self.named(str(number))
            case 2:
                return self.named(Text(number), scale=number)
            case 3:
                return self.pair(number)
            case 4:
                return self.pair(second="second", first=number)
            case 5:
                return self.triple(number, self.chance.choice((1, 1.0, True, "1", float("nan"), -0.0)))
            case 6:
                return self.touchy(Touchy(number))
            case 7:
                return self.tangle(number)
            case 8:
                return self.failing(number)
            case 9:
                return self.fickle(number)
            case 10:
                return self.plain(number)
            case 11:
                return self.delayed(number)
            case 12:
                return self.level(number)
            case 13:
                return self.above(number)
            case _:
                return self.leaf(self.chance.choice((number, True, 2.0)))  # type: ignore[arg-type]
