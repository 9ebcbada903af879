"""`freeze=True`: results that nobody can change, in every setting."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, assert_type

import msgspec
import numpy as np
import pyarrow as pa
import pydantic
import pytest

from fusion_cluster import App, ComputeOptions, ComputeService, command, compute_method
from fusion_cluster.client import connect
from fusion_cluster.errors import InvalidResult, UsageError
from fusion_cluster.graph.computing.freezing import frozen, is_frozen
from fusion_cluster.testing import LocalCluster
from tests.clients import fronted


@dataclass(frozen=True)
class Order:
    number: int
    lines: Sequence[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Slotted:
    lines: Sequence[str] = field(default_factory=list)


class Structure(msgspec.Struct, frozen=True):
    lines: Sequence[str]


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)
    lines: Sequence[str]


@dataclass
class Loose:
    number: int


class LooseStructure(msgspec.Struct):
    number: int


class LooseModel(pydantic.BaseModel):
    number: int


class Shop(ComputeService):
    @compute_method(freeze=True)
    async def items(self, number: int) -> list[int]:
        return [1, 2]

    @compute_method(freeze=True)
    def prices(self, number: int) -> dict[str, Sequence[int]]:
        return {"a": [1, 2]}

    @compute_method(freeze=True, min_cache_duration=10)
    async def names(self, number: int) -> set[str]:
        return {"a"}

    @compute_method(freeze=True)
    async def order(self, number: int) -> Order:
        return Order(number, ["a"])

    @compute_method(freeze=True, offload="thread")
    def nested(self, number: int) -> Mapping[str, Sequence[Mapping[str, Set[int]]]]:
        return {"a": [{"b": {1}}]}

    @compute_method(freeze=True, consolidation_delay=0)
    async def consolidated(self, number: int) -> Sequence[int]:
        return [1, 2]

    @compute_method(freeze=True)
    async def anything(self, number: int):  # type: ignore[no-untyped-def]
        return [1, [2]]

    @compute_method(freeze=True)
    async def loose(self, number: int) -> Loose:
        return Loose(number)


FROZEN: list[tuple[str, Any]] = [
    ("items", (1, 2)),
    ("prices", MappingProxyType({"a": (1, 2)})),
    ("names", frozenset({"a"})),
    ("order", Order(7, ("a",))),
    ("nested", MappingProxyType({"a": (MappingProxyType({"b": frozenset({1})}),)})),
    ("consolidated", (1, 2)),
    ("anything", (1, (2,))),
]


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(("method", "expected"), FROZEN)
async def test_results_are_frozen_where_they_are_computed_and_where_they_are_read(
    method: str, expected: Any, strict: bool
) -> None:
    app = App("shop", [Shop])
    async with app.local(strict=strict) as host:
        here = await getattr(host.service(Shop), method)(7)
    async with LocalCluster(app, shards=2, strict=strict) as cluster:
        there = await getattr(cluster.service(Shop), method)(7)
        owned = cluster.owner(f"Shop.{method}", 7).host.function(f"Shop.{method}").peek((7,))
    assert owned is not None
    for value in (here, there, owned.value):
        assert value == expected
        assert type(value) is type(expected)
        assert repr(value) == repr(expected)


async def test_clients_are_given_the_same() -> None:
    async with fronted(App("shop", [Shop])) as front, connect(front.address) as client:
        for method, expected in FROZEN:
            value = await getattr(client.service(Shop), method)(7)
            assert value == expected
            assert repr(value) == repr(expected)


class Taker(ComputeService):
    @compute_method(freeze=True)
    async def prices(self) -> dict[str, list[int]]:
        return {"a": [1, 2]}

    @command
    async def take(self, prices: dict[str, list[int]], *, more: Mapping[str, Sequence[int]]) -> str:
        return f"{prices} {more}"

    @compute_method
    async def of(self, prices: Mapping[str, Sequence[int]]) -> int:
        return sum(map(sum, prices.values()))


@pytest.mark.parametrize("strict", [True, False])
async def test_frozen_results_are_arguments_as_others_are(strict: bool) -> None:
    app = App("taker", [Taker])
    async with app.local(strict=strict) as host, LocalCluster(app, shards=2, strict=strict) as cluster:
        for taker in (host.service(Taker), cluster.service(Taker)):
            prices: Any = await taker.prices()
            assert "'a'" in await taker.take(prices, more=prices)
            assert await taker.of(prices) == 3


async def test_what_cannot_be_frozen_is_an_error_that_says_how_it_can() -> None:
    async with App("shop", [Shop]).local() as host:
        with pytest.raises(
            InvalidResult, match=r"^Shop.loose: its result cannot be frozen: .*@dataclass\(frozen=True\)"
        ):
            await host.service(Shop).loose(7)


class Defaults(ComputeService):
    compute_defaults = ComputeOptions(freeze=True)

    @compute_method
    async def frozen(self) -> Sequence[int]:
        return [1]

    @compute_method(freeze=False)
    async def free(self) -> Sequence[int]:
        return [1]


class ByApp(ComputeService):
    @compute_method
    async def frozen(self) -> Sequence[int]:
        return [1]


async def test_a_service_or_the_app_can_say_it_for_all() -> None:
    app = App("defaults", [Defaults, ByApp], defaults=ComputeOptions(freeze=True))
    async with app.local() as host:
        assert await host.service(Defaults).frozen() == (1,)
        assert await host.service(Defaults).free() == [1]
        assert await host.service(ByApp).frozen() == (1,)


@pytest.mark.parametrize("freeze", ["yes", 1, None])
def test_freeze_is_a_yes_or_no(freeze: Any) -> None:
    with pytest.raises(UsageError, match="freeze must be True or False") as caught:
        compute_method(freeze=freeze)
    assert caught.value.field == "freeze"


async def test_type_checkers_are_told() -> None:
    async with App("shop", [Shop]).local() as host:
        shop = host.service(Shop)
        assert_type(await shop.items(1), tuple[int, ...])
        assert_type(await shop.prices(1), Mapping[str, Sequence[int]])
        assert_type(await shop.names(1), frozenset[str])
        assert_type(await shop.order(1), Order)


# -- what is made of values ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([1, [2]], (1, (2,))),
        ((1, [2]), (1, (2,))),
        ({"a": {1: [2]}}, MappingProxyType({"a": MappingProxyType({1: (2,)})})),
        ({(1, 2)}, frozenset({(1, 2)})),
        (bytearray(b"x"), b"x"),
        (Order(1, ["a"]), Order(1, ("a",))),
        (Slotted(["a"]), Slotted(("a",))),
        (Structure(["a"]), Structure(("a",))),
        (Model(lines=["a"]), Model(lines=("a",))),
    ],
    ids=repr,
)
def test_what_values_become(value: Any, expected: Any) -> None:
    before = repr(value)
    assert repr(frozen(value)) == repr(expected)
    assert repr(value) == before
    assert is_frozen(frozen(value)) or isinstance(expected, Mapping)
    assert not is_frozen(value)


@pytest.mark.parametrize(
    "value",
    [3, "a", None, (1, ("a",)), frozenset({1}), Order(1, ("a",)), Structure(("a",)), pa.table({"a": [1]}), b"x", 1.5],
    ids=repr,
)
def test_what_is_frozen_already_is_not_copied(value: Any) -> None:
    assert frozen(value) is value
    assert is_frozen(value)


@pytest.mark.parametrize("value", [Loose(1), LooseStructure(1), LooseModel(number=1), [Loose(1)], object()], ids=repr)
def test_what_cannot_be_frozen(value: Any) -> None:
    with pytest.raises(TypeError):
        frozen(value)


def test_an_endless_value_cannot_be_frozen() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(TypeError, match="contains itself"):
        frozen(endless)


def test_arrays_become_read_only_copies() -> None:
    array = np.arange(3)
    copy = frozen(array)
    array[0] = 9
    assert copy[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        copy[0] = 1
