"""Generics are kept through the decorators: what mypy and pyright know, checked where it is run too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any, assert_type

import pytest

from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.errors import InvalidArgument
from fusion_cluster.graph import (
    BoundComputeMethod,
    Computed,
    ComputeFunction,
    ComputeMethod,
    Explanation,
    StoryEntry,
    compute_method,
    gather,
)

Host = Callable[[Any], Any]


class Carts(ComputeService):
    @compute_method
    async def total(self, cart_id: str, *, rounded: bool = False) -> Decimal:
        return Decimal(len(cart_id))

    @compute_method(min_cache_duration=60)
    async def names(self) -> tuple[str, ...]:
        return ("a",)


async def test_types_of_a_bound_compute_method(host: Host) -> None:
    carts: Carts = host(Carts())
    computed = carts.total("c1", rounded=True)
    assert_type(computed, Computed[Decimal])
    assert_type(await computed, Decimal)
    assert_type(computed.value, Decimal)
    assert_type(computed.error, Exception | None)
    assert_type(await computed.update(), Computed[Decimal])
    assert_type(await computed.when(lambda value: value > 1), Computed[Decimal])
    assert_type(carts.total.peek("c1"), Computed[Decimal] | None)
    changes = carts.total.changes("c1")
    assert_type(changes, AsyncIterator[Computed[Decimal]])
    async for change in changes:
        assert_type(change, Computed[Decimal])
        break
    await carts.total.invalidate("c1")
    assert_type(carts.total.why("c1", rounded=True), Explanation | None)
    assert_type(carts.total.story("c1"), list[StoryEntry])
    with pytest.raises(InvalidArgument):
        carts.total.why(1)  # type: ignore[arg-type]  # the parameters are those of the method
    assert_type(carts.total.function, ComputeFunction)
    assert_type(await carts.names(), tuple[str, ...])
    assert isinstance(Carts.names, ComputeMethod)
    bound: BoundComputeMethod[[], object] = carts.names  # covariant in the result
    assert await bound() == ("a",)


async def test_types_of_gather(host: Host) -> None:
    carts: Carts = host(Carts())
    two = await gather(carts.total("c1"), carts.names())
    assert_type(two, tuple[Decimal, tuple[str, ...]])
    many = await gather(*(carts.total(cart_id) for cart_id in ("a", "bb")))
    assert_type(many, list[Decimal])
    maybe = await gather(*(carts.total(cart_id) for cart_id in ("a", "bb")), return_exceptions=True)
    assert_type(maybe, list[Decimal | BaseException])
    assert many == [Decimal(1), Decimal(2)]


def test_wrong_calls_are_type_errors() -> None:
    async def wrong(carts: Carts) -> None:
        carts.total(1)  # type: ignore[arg-type]
        carts.total("c1", True)  # type: ignore[call-arg]
        carts.total.peek()  # type: ignore[call-arg]
        carts.names.invalidate("c1")  # type: ignore[call-arg]

    assert callable(wrong)
