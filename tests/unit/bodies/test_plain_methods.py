"""Plain `def` compute methods on the event loop: they read what is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, assert_type

import pytest

from fusion_cluster import Computed, ComputeService, UsageError, compute_method, value_of
from fusion_cluster.graph import BoundComputeMethod, ComputeMethod, Graph
from fusion_cluster.state import MutableState

Host = Callable[[Any], Any]


class Sheet(ComputeService):
    def __init__(self) -> None:
        self.cells = {"a": 1, "b": 2}
        self.factor = MutableState(10)
        self.log: list[str] = []

    @compute_method
    async def cell(self, name: str) -> int:
        return self.cells[name]

    @compute_method
    def scaled(self, name: str, *, by: int = 1) -> int:
        """A cell times the factor."""
        self.log.append(name)
        return value_of(self.cell(name)) * self.factor.value * by

    @compute_method
    def square(self, number: int) -> int:
        return number * number

    def with_one(self, name: str) -> int:
        return value_of(self.cell(name)) + 1

    @compute_method
    def by_way_of_a_plain_method(self, name: str) -> int:
        return self.with_one(name)

    async def fetched(self) -> int:
        return 3

    @compute_method
    def impatient(self) -> int:
        return value_of(self.fetched())


class Sums(ComputeService):
    sheet: Sheet

    @compute_method
    def total(self) -> int:
        return value_of(self.sheet.scaled("a")) + value_of(self.sheet.scaled("b"))


async def test_a_plain_method_is_cached_and_tracked_like_any_other(host: Host) -> None:
    sheet: Sheet = host(Sheet())
    assert await sheet.square(7) == 49
    assert sheet.square(7).is_consistent
    await sheet.cell("a")
    assert await sheet.scaled("a") == 10
    assert await sheet.scaled("a") == 10
    assert sheet.log == ["a"]
    scaled = sheet.scaled("a")
    sheet.cells["a"] = 5
    sheet.cell.invalidate("a")
    assert not scaled.is_consistent
    await sheet.cell("a")
    assert await sheet.scaled("a") == 50


async def test_a_plain_method_depends_on_the_states_it_reads(host: Host) -> None:
    sheet: Sheet = host(Sheet())
    await sheet.cell("b")
    scaled = await sheet.scaled("b").update()
    sheet.factor.set(100)
    assert not scaled.is_consistent
    assert await sheet.scaled("b") == 200


async def test_reading_what_is_not_computed_says_what_to_do_and_is_not_kept(host: Host) -> None:
    sheet: Sheet = host(Sheet())
    with pytest.raises(UsageError) as caught:
        await sheet.scaled("a")
    message = str(caught.value)
    assert "Sheet.scaled" in message
    assert "Sheet.cell('a')" in message
    assert "async def" in message
    assert 'offload="thread"' in message
    await sheet.cell("a")
    assert await sheet.scaled("a") == 10


async def test_other_services_and_plain_methods_are_read_in_the_same_way(host: Host) -> None:
    sheet: Sheet = host(Sheet())
    sums = Sums()
    sums.sheet = sheet
    host(sums)
    for name in ("a", "b"):
        await sheet.cell(name)
        await sheet.scaled(name)
    total = await sums.total().update()
    assert total.value == 30
    assert await sheet.by_way_of_a_plain_method("a") == 2
    sheet.cell.invalidate("b")
    assert not total.is_consistent


async def test_a_plain_method_cannot_wait_for_an_async_one(host: Host) -> None:
    sheet: Sheet = host(Sheet())
    with pytest.raises(UsageError, match=r"fetched\(\).*async def"):
        await sheet.impatient()


async def test_what_a_plain_method_assigns_is_assigned_to_its_service(host: Host) -> None:
    class Counting(ComputeService):
        runs = 0

        @compute_method
        def count(self) -> int:
            self.runs += 1
            return self.runs

    counting: Counting = host(Counting())
    assert await counting.count() == 1
    counting.count.invalidate()
    assert await counting.count() == 2
    assert counting.runs == 2


async def test_super_is_the_body_of_the_base(host: Host) -> None:
    class Loud(Sheet):
        @compute_method
        def scaled(self, name: str, *, by: int = 1) -> int:
            inherited: Any = super().scaled
            return int(inherited(name, by=by)) + 1000

    loud: Loud = host(Loud())
    await loud.cell("a")
    assert await loud.scaled("a", by=2) == 1020


async def test_an_error_of_a_plain_method_is_kept_like_any_other(host: Host, graph: Graph) -> None:
    class Failing(ComputeService):
        runs = 0

        @compute_method
        def get(self) -> int:
            self.runs += 1
            raise ValueError("no")

    failing: Failing = host(Failing())
    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            await failing.get()
    assert failing.runs == 1
    assert graph.stats.nodes == 1


async def test_a_plain_method_that_returns_a_coroutine_is_told_so(host: Host) -> None:
    async def fetch() -> int:
        return 1

    class Confused(ComputeService):
        @compute_method
        def get(self) -> Any:
            return fetch()

    confused: Confused = host(Confused())
    with pytest.raises(UsageError, match=r"Confused.get .*async def"):
        await confused.get()


def test_generators_give_no_value() -> None:
    with pytest.raises(UsageError, match="generator"):

        @compute_method
        def numbers(self: object) -> Iterator[int]:
            yield 1

    with pytest.raises(UsageError, match="generator"):

        @compute_method
        async def more_numbers(self: object) -> Any:
            yield 1


async def test_types_and_documentation_are_kept(host: Host) -> None:
    sheet: Sheet = host(Sheet())
    await sheet.cell("a")
    assert_type(sheet.scaled("a", by=2), Computed[int])
    assert_type(await sheet.scaled("a", by=2), int)
    bound: BoundComputeMethod[[int], int] = sheet.square
    assert await bound(2) == 4
    assert isinstance(Sheet.scaled, ComputeMethod)
    assert Sheet.scaled.__doc__ == "A cell times the factor."
    assert sheet.scaled.function.signature.result_type is int


async def test_value_of_is_the_value_of_a_computed_and_of_nothing_else_that_waits(host: Host) -> None:
    sheet: Sheet = host(Sheet())
    computed = await sheet.cell("a").update()
    assert_type(value_of(computed), int)
    assert value_of(computed) == 1
    with pytest.raises(UsageError, match="await it first"):
        value_of(sheet.cell("b"))
    with pytest.raises(UsageError, match="coroutine"):
        value_of(sheet.fetched())
