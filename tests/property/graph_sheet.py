"""What the model describes, as compute methods: bodies that stop at each step, keys that misbehave, sizes that vary."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.errors import ShardUnavailable
from fusion_cluster.graph import Computed, compute_method, gather, isolated
from fusion_cluster.state import MutableState
from tests.property.graph_model import (
    CATCHING,
    CAUGHT,
    CUT_S,
    LAG_S,
    LOOSE,
    TIDE_S,
    TRANSIENT_S,
    Model,
    Stubborn,
    Value,
    coarse,
    leaves,
    steps,
)


@dataclass(frozen=True, eq=False)
class Awkward:
    """A key whose comparisons run code: `on_compare`, once armed, is called in the next one. All have one hash."""

    name: str

    on_compare: ClassVar[Callable[[], object] | None] = None

    def __hash__(self) -> int:
        return 7

    def __eq__(self, other: object) -> bool:
        hook, Awkward.on_compare = Awkward.on_compare, None
        if hook is not None:
            hook()
        return isinstance(other, Awkward) and other.name == self.name


class Sheet(ComputeService):
    """Cells and what is made of them. Bodies of cells and derived values stop at each step until they are let go."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.state = MutableState(0)
        self.stopped: list[asyncio.Future[None]] = []
        self.background: set[asyncio.Task[Any]] = set()

    async def stop(self) -> None:
        gate = asyncio.get_running_loop().create_future()
        self.stopped.append(gate)
        try:
            await gate
        finally:
            if gate in self.stopped:
                self.stopped.remove(gate)

    # -- by name -------------------------------------------------------------------------------------------------------
    def computed(self, name: str) -> Computed[Value]:
        method, arguments = self.spelled(name)
        computed: Computed[Value] = method(*arguments)
        return computed

    def invalidate(self, name: str) -> None:
        method, arguments = self.spelled(name)
        method.invalidate(*arguments)

    def spelled(self, name: str) -> tuple[Any, tuple[Any, ...]]:
        """Return the method and the arguments of a name; arguments are new objects each time."""
        kind, _, rest = name.partition(":")
        match kind:
            case "x0" | "x1" | "x2" | "x3":
                return self.cell, (name,)
            case "leaf":
                return self.leaf, (int(rest),)
            case "awkward":
                return self.awkward, (Awkward(rest),)
            case "loose":
                return self.loose, (LOOSE[name],)
            case "pair":
                return self.pair, (rest,) if rest == "a" else (rest, 3.0)
            case "wide":
                return self.wide, tuple(map(int, rest.split(":")))
            case "tap":
                return self.tap, (int(rest),)
            case "chain":
                return self.chain, (int(rest),)
            case "slow" | "tidal" | "kept" | "cut":
                return getattr(self, kind), ()
            case _:
                return self.derived, (name,)

    # -- atoms ---------------------------------------------------------------------------------------------------------
    @compute_method
    async def cell(self, name: str) -> Value:
        value = self.model.read(name)
        await self.stop()
        return value

    @compute_method
    async def leaf(self, number: int) -> Value:
        return self.model.read(f"leaf:{number}")

    @compute_method
    async def awkward(self, key: Awkward) -> Value:
        return self.model.read(f"awkward:{key.name}")

    @compute_method
    async def loose(self, key: Any) -> Value:
        spelled = json.dumps(key)  # without a hint a tuple arrives as a list, and 1, 1.0 and True stay apart
        return self.model.read(next(name for name, value in LOOSE.items() if json.dumps(value) == spelled))

    @compute_method
    async def pair(self, first: str, second: int = 3) -> Value:
        assert type(second) is int
        return self.model.read(f"pair:{first}")

    # -- many dependencies, many dependents, long chains ---------------------------------------------------------------
    @compute_method
    async def wide(self, width: int, variant: int) -> Value:
        names = leaves(f"wide:{width}")
        if variant % 2:
            parts = await gather(*(self.computed(name) for name in names))
        else:
            parts = [await self.computed(name) for name in names]
        if variant > 1:
            await self.stop()
            parts += [await self.computed(name) for name in reversed(names)]  # again: no second edge
        return frozenset[tuple[str, int]]().union(*parts)

    @compute_method
    async def tap(self, number: int) -> Value:
        return await self.leaf(0) | await self.leaf(number)

    @compute_method
    async def chain(self, depth: int) -> Value:
        return await (self.chain(depth - 1) if depth else self.leaf(0))

    # -- by steps ------------------------------------------------------------------------------------------------------
    @compute_method(transient_error_delay=TRANSIENT_S)
    async def derived(self, name: str) -> Value:
        await self.stop()
        if name == "quitter" and self.model.is_weather_bad:
            raise asyncio.CancelledError
        if name == "flaky":
            return await self._in_good_weather(ConnectionError)
        if name == "stubborn":
            return await self._in_good_weather(Stubborn)
        return await self._follow(name)

    @compute_method(invalidation_delay=LAG_S, transient_error_delay=TRANSIENT_S)
    async def slow(self) -> Value:
        first = await self.cell("x0")
        await self.stop()
        second = await self.cell("x1")
        if self.model.is_weather_bad:
            raise ConnectionError("slow")
        return first | second

    @compute_method(auto_invalidation_delay=TIDE_S)
    async def tidal(self) -> Value:
        part = await self.cell("x2")
        return part | self.model.read("tide")

    @compute_method(min_cache_duration=20.0)
    async def kept(self) -> Value:
        return await self._follow("kept")

    @compute_method(consolidation_delay=CUT_S)
    async def cut(self) -> Value:
        ((_, version),) = await self.leaf(0)
        return coarse(version)

    async def _in_good_weather(self, error: type[Exception]) -> Value:
        part = await self.cell("x3")
        if self.model.is_weather_bad:
            raise error("the weather")
        return part

    async def _follow(self, name: str) -> Value:
        seen: dict[str, int] = {}
        used: Value = frozenset()
        taken = 0
        while True:
            # What comes next may hang on what was read, as it was read.
            plan = steps(name, {**dict.fromkeys(("x0", "x1", "x2", "x3"), 0), **seen})
            if taken == len(plan):
                return used
            step = plan[taken]
            taken += 1
            try:
                part = await self._take(name, step)
            except CAUGHT:
                if name not in CATCHING:
                    raise
                continue
            used |= part
            seen.update(part)
            if name != "keys":
                await self.stop()

    async def _take(self, name: str, step: str | type[Exception]) -> Value:
        if isinstance(step, type):
            raise ShardUnavailable(name) if step is ShardUnavailable else step(name)
        if step == "state":
            return frozenset({("state", self.state.value)})
        if name == "hidden":
            with isolated():
                await self.computed("x2")
        if name == "tasks":
            task = asyncio.create_task(self.read(step))
            self._leave_behind()
            return await task
        if name == "top":
            return frozenset[tuple[str, int]]().union(*await gather(self.computed(step), self.computed("x1")))
        return await self.computed(step)

    async def read(self, name: str) -> Value:
        return await self.computed(name)

    async def gather(self, names: list[str]) -> Value:
        parts = await gather(*(self.computed(name) for name in names))
        return frozenset[tuple[str, int]]().union(*parts)

    def _leave_behind(self) -> None:
        """Read something in a task that may outlive this body: it must not become a dependency then."""
        task = asyncio.create_task(self._swallow("x3"))
        self.background.add(task)
        task.add_done_callback(self.background.discard)

    async def _swallow(self, name: str) -> None:
        with contextlib.suppress(Exception):
            await self.computed(name)
