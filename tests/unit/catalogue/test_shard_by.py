"""`shard_by`: a parameter's name or a function, of reads and of commands, places what concerns one entity together."""

from __future__ import annotations

import asyncio
import sys
import types
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from fusion_cluster import App, ComputeService, command, compute_method
from fusion_cluster.errors import UsageError
from fusion_cluster.testing import LocalCluster


class Orders(ComputeService):
    def __init__(self) -> None:
        self.lines: dict[int, list[str]] = {}
        self.at_once = 0
        self.most_at_once = 0

    @compute_method
    async def of(self, order: int) -> tuple[str, ...]:
        return tuple(self.lines.get(order, ()))

    @compute_method(shard_by=lambda name, order: order)
    async def count(self, name: str, order: int) -> int:
        return self.lines.get(order, []).count(name)

    @command(shard_by=lambda name, order: order)
    async def add(self, name: str, order: int) -> int:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.lines.setdefault(order, []).append(name)
        self.at_once -= 1
        self.of.invalidate(order)
        self.count.invalidate(name, order)
        return len(self.lines[order])


class Sums(ComputeService):
    @compute_method(shard_by=lambda amount: str(amount))
    async def half(self, amount: Decimal) -> Decimal:
        return amount / 2

    @command(shard_by=lambda amount: str(amount))
    async def pay(self, amount: Decimal) -> str:
        return str(amount)

    @compute_method(shard_by=lambda amount: 1 // amount)
    async def fails(self, amount: int) -> int:
        return amount

    @command(shard_by=lambda amount: object())
    async def odd(self, amount: int) -> int:
        return amount


app = App("shop", [Orders, Sums])


async def test_commands_and_reads_of_one_entity_meet_on_one_shard_and_take_turns() -> None:
    async with LocalCluster(app, shards=3) as cluster:
        orders = cluster.service(Orders)
        for order in range(20):
            owner = cluster.owner("Orders.of", order)
            assert owner is cluster.owner("Orders.add", "tea", order) is cluster.owner("Orders.count", "ink", order)
            await asyncio.gather(*(orders.add(name, order) for name in ("tea", "ink", "tea")))
            assert await orders.of(order) == ("tea", "ink", "tea")
            assert await orders.count("tea", order) == 2
            assert owner.host.service(Orders).most_at_once == 1


async def test_spellings_of_one_amount_are_on_one_shard_and_reach_the_command_as_they_are() -> None:
    async with LocalCluster(app, shards=3) as cluster:
        one, other = Decimal("1.20"), Decimal("1.2")
        assert cluster.owner("Sums.pay", one) is cluster.owner("Sums.pay", other) is cluster.owner("Sums.half", other)
        assert await cluster.service(Sums).pay(one) == "1.20"


async def test_a_function_that_fails_is_told_to_the_caller() -> None:
    async with LocalCluster(app, shards=2) as cluster:
        sums = cluster.service(Sums)
        assert await sums.fails(1) == 1
        with pytest.raises(UsageError, match=r"Sums.fails: its shard_by has failed: ZeroDivisionError"):
            await sums.fails(0)
        with pytest.raises(UsageError, match=r"Sums.odd: its shard_by has failed"):
            await sums.odd(0)
        assert await sums.fails(1) == 1
        never_awaited = sums.fails(0)
        cluster.host.set_slot_map(replace(cluster.slot_map, version=cluster.slot_map.version + 1))
        assert not never_awaited.is_consistent
        await asyncio.wait_for(sums.fails.invalidate(0), 5)


async def test_a_strict_host_finds_it_in_one_process() -> None:
    async with app.local(strict=True) as host:
        sums = host.service(Sums)
        for call in (sums.fails, sums.odd):
            with pytest.raises(UsageError, match=r"its shard_by has failed"):
                await call(0)


async def _late(order: int) -> int:
    return order


@pytest.mark.parametrize(
    ("shard_by", "says"),
    [
        ("nothing", "has no parameter 'nothing' to shard by"),
        (lambda: 1, "shard_by must take what the method takes: order, name"),
        (lambda order: order, "shard_by must take what the method takes: order, name"),
        (_late, "shard_by must be a plain function, not an async def"),
    ],
)
def test_what_cannot_decide_is_refused_when_the_method_is_defined(shard_by: Any, says: str) -> None:
    async def get(self: Any, order: int, name: str = "") -> int:
        return order

    for decorator in (compute_method, command):
        with pytest.raises(UsageError, match=says) as caught:
            decorator(shard_by=shard_by)(get)
        assert caught.value.field == "shard_by"
    compute_method(shard_by=lambda order, *rest: order)(get)
    command(shard_by=max)(get)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="type parameters of classes came with Python 3.12")
def test_type_parameters_of_classes_are_resolved() -> None:
    module = types.ModuleType("with_type_parameters")
    sys.modules[module.__name__] = module
    try:
        exec(
            "from __future__ import annotations\n"
            "from fusion_cluster import ComputeService, compute_method\n"
            "class Repo[T](ComputeService):\n"
            "    other: Repo[T]\n"
            "    @compute_method\n"
            "    async def get(self, items: list[T]) -> T | None: ...\n"
            "class Ints(Repo[int]): ...\n",
            vars(module),
        )
        (method,) = App("ints", [module.Ints]).methods.values()
    finally:
        del sys.modules[module.__name__]
    assert method.signature.parameters[0].type == list[int]
    assert method.signature.result_type == int | None
