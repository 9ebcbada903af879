"""A desk whose compute methods run in threads, and the sheet on the event loop that they read."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fusion_cluster import ComputeService, command, compute_method, gather, isolated, value_of
from fusion_cluster.bodies.attaching import attach
from fusion_cluster.bodies.offload import Bodies
from fusion_cluster.graph import Graph, GraphHosting, current_computation
from fusion_cluster.state import MutableState

PLACES = 2
TIMEOUT_S = 5.0

flavour: contextvars.ContextVar[str] = contextvars.ContextVar("flavour", default="plain")


class Gate:
    """Holds up a body in a thread."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()
        self.left: list[BaseException | str] = []

    def pass_through(self) -> None:
        self.entered.set()
        assert self.opened.wait(TIMEOUT_S)


class Desk(ComputeService):
    """Works in threads, on what the sheet says."""

    sheet: Sheet

    def __init__(self) -> None:
        self.rate = MutableState(2)
        self.gates: dict[str, Gate] = {}
        self.threads: list[int] = []

    @compute_method(offload="thread")
    def twice(self, name: str) -> int:
        self.threads.append(threading.get_ident())
        return 2 * value_of(self.sheet.cell(name))

    @compute_method(offload="thread")
    async def twice_async(self, name: str) -> int:
        self.threads.append(threading.get_ident())
        return 2 * await self.sheet.cell(name)

    @compute_method(offload="thread")
    def rated(self) -> int:
        return self.rate.value * 10

    @compute_method(offload="thread")
    async def rated_async(self) -> int:
        assert self.rate.error is None
        return await self.rate * self.rate.value

    @compute_method(offload="thread")
    async def total(self, names: tuple[str, ...]) -> int:
        return sum(await gather(*(self.sheet.cell(name) for name in names)))

    @compute_method(offload="thread")
    def nested(self, depth: int) -> int:
        return value_of(self.nested(depth - 1)) + 1 if depth else value_of(self.sheet.cell("a"))

    @compute_method(offload="thread")
    async def nested_async(self, depth: int) -> int:
        return await self.nested_async(depth - 1) + 1 if depth else await self.sheet.cell("a")

    @compute_method(offload="thread")
    def apart(self, name: str) -> int:
        with isolated():
            return value_of(self.sheet.cell(name))

    @compute_method(offload="thread")
    async def apart_async(self, name: str) -> int:
        with isolated():
            return await self.sheet.cell(name)

    @compute_method(offload="thread")
    def in_threads_of_its_own(self) -> int:
        with ThreadPoolExecutor(2) as pool:
            return sum(pool.map(lambda name: value_of(self.sheet.cell(name)), ["a", "b"]))

    @compute_method(offload="thread")
    def held(self, name: str) -> int:
        gate = self.gates[name]
        gate.pass_through()
        try:
            value = value_of(self.sheet.cell(name))
        except BaseException as error:
            gate.left.append(error)
            raise
        gate.left.append("value")
        return value

    @compute_method(offload="thread")
    def held_early(self, name: str) -> int:
        value = value_of(self.sheet.cell(name))
        self.gates[name].pass_through()
        return value

    @compute_method(offload="thread")
    async def waits_for_ever(self, name: str) -> None:
        gate = self.gates[name]
        gate.entered.set()
        try:
            await asyncio.Event().wait()
        except BaseException as error:
            gate.left.append(error)
            raise

    @compute_method(offload="thread")
    def round_trip(self, number: int) -> int:
        return value_of(self.round_trip((number + 1) % 3))

    @compute_method(offload="thread")
    async def round_trip_async(self, number: int) -> int:
        return await self.round_trip_async((number + 1) % 3)

    @compute_method(offload="thread")
    def round_trip_apart(self, number: int) -> int:
        with isolated():
            return value_of(self.round_trip_apart((number + 1) % 3))

    @compute_method(offload="thread")
    async def round_trip_apart_async(self, number: int) -> int:
        with isolated():
            return await self.round_trip_apart_async((number + 1) % 3)

    @compute_method(offload="thread")
    def failing(self, name: str) -> int:
        raise KeyError(name)

    @compute_method(offload="thread")
    def relaying(self, name: str) -> int:
        return value_of(self.failing(name))

    @compute_method(offload="thread")
    def of_a_flavour(self) -> str:
        return flavour.get()

    @compute_method(offload="thread")
    def tells_that_it_computes(self) -> bool:
        return current_computation.get() is not None

    async def fetched(self, name: str) -> int:
        return 100 + await self.sheet.cell(name)

    @compute_method(offload="thread")
    def by_a_plain_coroutine(self, name: str) -> int:
        return value_of(self.fetched(name))

    @compute_method(offload="thread")
    async def by_a_plain_coroutine_async(self, name: str) -> int:
        return await self.fetched(name)

    @compute_method(offload="thread")
    def misuse(self, what: str) -> Any:
        uses: dict[str, Callable[[], Any]] = {
            "peek": lambda: self.sheet.cell.peek("a"),
            "changes": lambda: self.sheet.cell.changes("a"),
            "state": lambda: self.rate.set(3),
            "command": lambda: value_of(self.change()),
            "database": lambda: self.database.session(),
        }
        return uses[what]()

    @command
    async def change(self) -> None: ...

    @compute_method(offload="thread")
    def forgets(self, name: str) -> None:
        value_of(self.sheet.cell.invalidate(name))


class Sheet(ComputeService):
    def __init__(self) -> None:
        self.cells = {"a": 1, "b": 2, "c": 3}
        self.gate: asyncio.Event | None = None
        self.reading: list[str] = []
        self.cancelled: list[str] = []

    @compute_method
    async def cell(self, name: str) -> int:
        self.reading.append(name)
        if self.gate is not None:
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled.append(name)
                raise
        return self.cells[name]

    def put(self, name: str, value: int) -> None:
        self.cells[name] = value
        self.cell.invalidate(name)


class Office:
    """The desk, with its sheet, in a graph with few threads."""

    def __init__(self) -> None:
        self.graph = Graph()
        hosting = GraphHosting(self.graph)
        self.bodies = Bodies(max_threads=PLACES)
        self.sheet, self.desk = Sheet(), Desk()
        self.desk.sheet = self.sheet
        attach(self.sheet, hosting, bodies=self.bodies)
        attach(self.desk, hosting, bodies=self.bodies)

    def gate(self, name: str) -> Gate:
        gate = self.desk.gates[name] = Gate()
        return gate
