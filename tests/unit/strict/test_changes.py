"""What a strict host finds in results that were cached: that somebody has changed them since."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fusion_cluster import App, ComputeService, compute_method, gather, value_of
from fusion_cluster.blocking import blocking
from fusion_cluster.errors import ResultChanged
from fusion_cluster.host import LocalHost
from fusion_cluster.testing import LocalCluster
from tests.waiting import until


@dataclass
class Order:
    number: int
    lines: list[str] = field(default_factory=list)
    prices: dict[str, float] = field(default_factory=dict)


class Shop(ComputeService):
    def __init__(self) -> None:
        self.held = [1, 2]

    @compute_method
    async def items(self, number: int) -> list[int]:
        return [1, 2, 3]

    @compute_method
    async def order(self, number: int) -> Order:
        return Order(number, ["a"], {"a": 1.0})

    @compute_method
    async def names(self, number: int) -> set[str]:
        return {"a", "b"}

    @compute_method
    async def array(self, number: int) -> np.ndarray:
        return np.arange(3)

    @compute_method
    async def frame(self, number: int) -> pd.DataFrame:
        return pd.DataFrame({"a": [1, 2]})

    @compute_method
    async def arrays(self, number: int) -> dict[str, np.ndarray]:
        return {"a": np.arange(3)}

    @compute_method
    async def anything(self, number: int):  # type: ignore[no-untyped-def]
        return {"a": [1]}

    @compute_method
    async def inventory(self) -> list[int]:
        return self.held

    @compute_method
    async def total(self, number: int) -> int:
        return sum(await self.items(number))

    @compute_method
    async def largest(self, number: int) -> int:
        items = await self.items(number)
        items.sort(reverse=True)
        return items[0]

    @compute_method
    async def largest_of_two(self, number: int) -> int:
        first, _ = await gather(self.items(number), self.order(number))
        first.sort(reverse=True)
        return first[0]

    @compute_method(offload="thread")
    def largest_in_a_thread(self, number: int) -> int:
        items = value_of(self.items(number))
        items.sort(reverse=True)
        return items[0]

    @compute_method
    def largest_now(self, number: int) -> int:
        items = value_of(self.items(number))
        items.sort(reverse=True)
        return items[0]


app = App("shop", [Shop])

Change = Callable[[Any], object]

CHANGES: list[tuple[str, Change, str]] = [
    ("items", lambda items: items.append(4), r"\[3\] is new: 4"),
    ("items", lambda items: items.pop(), r"\[2\] is gone: 3"),
    ("items", lambda items: items.__setitem__(1, 9), r"\[1\] was 2 and is 9"),
    ("items", lambda items: items.__setitem__(0, True), r"\[0\] was 1 and is True"),
    ("items", lambda items: items.append(object()), "a value of type builtins.object cannot leave the process"),
    ("order", lambda order: setattr(order, "number", 8), r"\['number'\] was 7 and is 8"),
    ("order", lambda order: order.lines.append("b"), r"\['lines'\]\[1\] is new: 'b'"),
    ("order", lambda order: order.prices.update(b=2.0), r"\['prices'\]\['b'\] is new: 2.0"),
    ("order", lambda order: order.prices.clear(), r"\['prices'\]\['a'\] is gone: 1.0"),
    ("names", lambda names: names.add("c"), ""),
    ("names", lambda names: names.discard("a"), ""),
    ("array", lambda array: array.__setitem__(0, 9), "it has another content"),
    ("frame", lambda frame: frame.__setitem__("b", 3), "it has another content"),
    ("arrays", lambda arrays: arrays["a"].__setitem__(0, 9), r"\['a'\] has another content"),
    ("anything", lambda value: value["a"].append(2), r"\['a'\]\[1\] is new: 2"),
]


@pytest.mark.parametrize(("method", "change", "what"), CHANGES)
async def test_a_change_by_a_reader_is_found_by_the_next_one(method: str, change: Change, what: str) -> None:
    async with app.local(strict=True) as host:
        read = getattr(host.service(Shop), method)
        first = await read(7)
        before = repr(first)
        change(first)
        with pytest.raises(ResultChanged, match=rf"^Shop.{method}\(7\): its result was changed .*{what}") as caught:
            await read(7)
        assert f"test_changes.py:{test_a_change_by_a_reader_is_found_by_the_next_one.__code__.co_firstlineno}"[:-2] in (
            caught.value.message
        )
        assert len(repr(await read(7))) == len(before)  # it was computed anew


async def peeked(shop: Shop) -> Any:
    computed = shop.items.peek(7)
    return None if computed is None else computed.value


async def changes(shop: Shop) -> Any:
    async for computed in shop.items.changes(7):
        return computed.value
    return None


async def updated(shop: Shop) -> Any:
    return (await shop.items(7).update()).value


READS: list[Callable[[Shop], Awaitable[Any]]] = [
    lambda shop: shop.items(7),
    lambda shop: gather(shop.items(7)),
    lambda shop: gather(shop.items(7), shop.items(8)),
    lambda shop: shop.total(7),
    lambda shop: shop.largest_in_a_thread(7),
    lambda shop: shop.largest_now(7),
    peeked,
    changes,
    updated,
]


@pytest.mark.parametrize("read", READS)
async def test_each_way_of_reading_finds_it(read: Callable[[Shop], Awaitable[Any]]) -> None:
    async with app.local(strict=True) as host:
        shop = host.service(Shop)
        (await shop.items(7)).append(4)
        with pytest.raises(ResultChanged, match=r"Shop.items\(7\)"):
            await read(shop)


async def test_gathered_errors_are_results_too() -> None:
    async with app.local(strict=True) as host:
        shop = host.service(Shop)
        (await shop.items(7)).append(4)
        error, items = await gather(shop.items(7), shop.items(8), return_exceptions=True)
        assert isinstance(error, ResultChanged)
        assert items == [1, 2, 3]


@pytest.mark.parametrize("method", ["largest", "largest_of_two", "largest_in_a_thread", "largest_now"])
async def test_a_body_that_changes_what_it_reads_fails_and_is_named(method: str) -> None:
    async with app.local(strict=True) as host:
        shop = host.service(Shop)
        await shop.items(7)
        with pytest.raises(ResultChanged, match=rf"^Shop.items\(7\): .*Shop.{method}\(7\) has read it"):
            await getattr(shop, method)(7)
        assert await shop.total(7) == 6


async def test_the_object_that_the_service_holds_is_not_the_one_that_readers_get() -> None:
    async with app.local(strict=True) as host:
        shop = host.service(Shop)
        first = await shop.inventory()
        shop.held.append(3)
        assert first == [1, 2]
        with pytest.raises(
            ResultChanged, match=r"^Shop.inventory\(\): the service holds what it returned, .*\[2\] is new"
        ):
            await shop.inventory()
        assert await shop.inventory() == [1, 2, 3]


async def test_a_service_may_change_what_it_holds_and_invalidate_it() -> None:
    async with app.local(strict=True) as host:
        shop = host.service(Shop)
        old = shop.inventory()
        await old
        shop.held.append(3)
        shop.inventory.invalidate()
        assert await shop.inventory() == [1, 2, 3]
        assert old.value == [1, 2]


async def test_a_change_that_nobody_reads_is_told_when_the_host_is_closed() -> None:
    with pytest.raises(ResultChanged, match=r"Shop.items\(7\): .*\[3\] is new: 4"):
        async with app.local(strict=True) as host:
            (await host.service(Shop).items(7)).append(4)


async def test_a_change_of_what_the_service_holds_is_told_when_the_host_is_closed() -> None:
    with pytest.raises(ResultChanged, match=r"Shop.inventory\(\): the service holds"):  # noqa: PT012
        async with app.local(strict=True) as host:
            await host.service(Shop).inventory()
            host.service(Shop).held.append(3)


@pytest.mark.parametrize("method", ["items", "total"])
async def test_a_change_before_an_invalidation_is_told_when_the_host_is_closed(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ResultChanged, match=r"Shop.items\(7\): .*\[3\] is new: 4"):  # noqa: PT012
        async with app.local(strict=True) as host:
            shop = host.service(Shop)
            items = await shop.items(7)
            await shop.total(7)
            items.append(4)
            shop.items.invalidate(7)
            assert await shop.items(7) == [1, 2, 3]
    assert "Shop.items(7)" in caplog.text


async def test_what_is_out_of_date_may_be_changed() -> None:
    async with app.local(strict=True) as host:
        items = await host.service(Shop).items(7)
        host.service(Shop).items.invalidate(7)
        items.append(4)


async def test_an_error_of_the_block_is_not_hidden_by_what_is_found_at_its_end() -> None:
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with app.local(strict=True) as host:
            (await host.service(Shop).items(7)).append(4)
            raise ZeroDivisionError


async def test_a_reader_who_was_told_is_not_told_again_at_the_end() -> None:
    async with app.local(strict=True) as host:
        (await host.service(Shop).items(7)).append(4)
        with pytest.raises(ResultChanged):
            await host.service(Shop).items(7)


async def test_many_are_counted() -> None:
    with pytest.raises(ResultChanged, match="… and 2 more"):  # noqa: PT012
        async with app.local(strict=True) as host:
            for number in range(7):
                (await host.service(Shop).items(number)).append(4)


async def test_readers_in_a_cluster_find_it_in_their_own_replica() -> None:
    async with LocalCluster(app, shards=2) as cluster:
        shop = cluster.service(Shop)
        (await shop.items(7)).append(4)
        with pytest.raises(ResultChanged, match=r"^Shop.items\(7\)"):
            await shop.items(7)


async def test_a_cluster_tells_at_its_end_what_its_members_have_found() -> None:
    with pytest.raises(ResultChanged, match=r"Shop.items\(7\)"):
        async with LocalCluster(app, shards=2) as cluster:
            (await cluster.service(Shop).items(7)).append(4)


def test_a_blocking_host_tells_it_too() -> None:
    with pytest.raises(ResultChanged, match=r"Shop.items\(8\)"), blocking(app.local(strict=True)) as host:  # noqa: PT012
        shop = host.service(Shop)
        value_of(shop.items(7)).append(4)
        with pytest.raises(ResultChanged, match=r"Shop.items\(7\)"):
            shop.items(7)
        value_of(shop.items(8)).append(4)


async def test_a_host_that_is_not_strict_shares_what_the_body_returned() -> None:
    async with app.local(strict=False) as host:
        shop = host.service(Shop)
        (await shop.inventory()).append(4)
        assert await shop.inventory() == [1, 2, 4]
        assert shop.held == [1, 2, 4]


async def test_reading_again_and_again_changes_nothing() -> None:
    async with app.local(strict=True) as host:
        shop = host.service(Shop)
        first = await shop.order(7)
        for _ in range(3):
            assert await shop.order(7) is first
        await asyncio.gather(shop.names(7), shop.names(7))


class Consolidated(ComputeService):
    def __init__(self) -> None:
        self.held = [1]

    @compute_method(consolidation_delay=0)
    async def items(self) -> list[int]:
        return self.held

    @compute_method
    async def count(self) -> int:
        return len(await self.items())


async def test_a_change_and_an_invalidation_is_found_where_the_value_is_compared_with_the_one_before() -> None:
    async def change() -> None:
        async with App("consolidated", [Consolidated]).local(strict=True) as host:
            service = host.service(Consolidated)
            assert await service.count() == 1
            service.held.append(2)
            service.items.invalidate()
            await until(lambda: service.count.peek() is None)
            assert await service.count() == 2

    with pytest.raises(
        ResultChanged, match=r"^Consolidated.items\(\): the service holds what it returned, .*is new: 2"
    ):
        await change()


class Odd(ComputeService):
    @compute_method
    async def sets(self) -> list[set[int]]:
        return [set(range(100))]


async def test_a_set_whose_items_come_in_another_order_is_the_same_set() -> None:
    async with App("odd", [Odd]).local(strict=True) as host:
        (numbers,) = await host.service(Odd).sets()
        for number in range(10_000):  # it grows, and is rebuilt
            numbers.add(number)
        for number in range(100, 10_000):
            numbers.discard(number)
        numbers.discard(3)
        numbers.add(3)
        await host.service(Odd).sets()


async def test_nothing_is_kept_of_what_cannot_be_changed_or_is_gone() -> None:
    async with app.local(strict=True) as host:
        shop = host.service(Shop)
        assert host.strict is not None
        await shop.total(7)
        assert len(host.strict._kept) == 1  # of items
        shop.items.invalidate(7)
        assert not host.strict._kept


async def test_a_value_that_was_paged_out_is_not_missed() -> None:
    host = LocalHost(app, max_bytes=4_000, strict=True)
    shop = host.service(Shop)
    for number in range(100):
        await shop.total(number)
    assert await shop.total(3) == 6
    await host.close()
