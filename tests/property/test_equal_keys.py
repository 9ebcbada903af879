"""A.24: equal keys are the same key, and only those: in one process as on the wire, for every supported hint."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import hypothesis.strategies as st
import msgspec
import pydantic
from hypothesis import HealthCheck, given, reject, settings

from fusion_cluster.bodies.attaching import attach
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.errors import InvalidArgument, UsageError
from fusion_cluster.graph import Graph, GraphHosting, compute_method
from tests.property.hinted_values import HINTS, values


def service_for(hint: Any) -> Any:
    """A service with a method whose parameter has the hint."""

    async def get(self: Any, value: Any) -> int:
        self.seen.append(copy.deepcopy(value))
        spoil(value)
        return len(self.seen)

    get.__annotations__["value"] = hint

    class Seen(ComputeService):
        def __init__(self) -> None:
            self.seen: list[Any] = []

        method = compute_method(get)

    service = Seen()
    try:
        attach(service, GraphHosting(Graph()))
    except UsageError:
        reject()  # values of the hint cannot be told apart when encoded
    return service


def spoil(value: Any) -> None:
    """Change what can be changed, as a body may do with its arguments."""
    if isinstance(value, list):
        value.append("spoiled")
    elif isinstance(value, dict):
        value["spoiled"] = True
    elif isinstance(value, tuple):
        for item in value:
            spoil(item)


def shown(value: Any) -> Any:
    """A value with the types of all that is in it, so that two are shown alike only if nobody can tell them apart."""
    kind = type(value).__name__
    if isinstance(value, list | tuple):
        return kind, [shown(item) for item in value]
    if isinstance(value, dict):
        return kind, [(shown(key), shown(item)) for key, item in value.items()]
    if isinstance(value, set | frozenset):
        return kind, sorted(repr(shown(item)) for item in value)
    fields = list(fields_of(value))
    return kind, [shown(field) for field in fields] if fields else repr(value)


def fields_of(value: Any) -> Iterator[Any]:
    if dataclasses.is_dataclass(value):
        yield from (getattr(value, field.name) for field in dataclasses.fields(value))
    elif isinstance(value, msgspec.Struct):
        yield from (getattr(value, name) for name in value.__struct_fields__)
    elif isinstance(value, pydantic.BaseModel):
        yield from value.__dict__.values()


def node_or_refusal(service: Any, value: Any) -> Any:
    """The node for an argument, or the error by which it is refused."""
    try:
        return service.method(value)
    except InvalidArgument as error:
        return error


@st.composite
def hints_with_values(draw: st.DrawFn) -> tuple[Any, list[Any]]:
    hint = draw(HINTS)
    return hint, draw(st.lists(values(hint), min_size=2, max_size=4))


@given(hints_with_values())
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_two_calls_are_one_key_if_and_only_if_their_arguments_have_equal_bytes(drawn: tuple[Any, list[Any]]) -> None:
    hint, raw = drawn
    service = service_for(hint)
    codec = service.method.function.codec
    nodes: list[tuple[bytes, Any]] = []
    for value in raw * 2:
        node = node_or_refusal(service, value)
        if isinstance(node, InvalidArgument):
            assert (node.field, node.message[:19]) == ("value", "Seen.method: value:")
            continue
        encoded = codec.encode(node.arguments)
        assert encoded == codec.encode(codec.canonical((value,)))
        for known, other in nodes:
            assert (known == encoded) is (other is node), f"{value!r} for {hint}"
        nodes.append((encoded, node))


@given(hints_with_values())
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_canonical_arguments_are_what_decoding_makes_of_their_bytes(drawn: tuple[Any, list[Any]]) -> None:
    hint, raw = drawn
    service = service_for(hint)
    codec = service.method.function.codec
    for value in raw:
        try:
            canonical = codec.canonical((value,))
        except InvalidArgument:
            continue
        before = shown(tuple(canonical))
        decoded = codec.decode_msgpack(codec.encode(canonical))
        assert shown(tuple(decoded)) == before, (hint, value)
        assert type(decoded) is type(canonical)
        assert shown(tuple(codec.canonical(tuple(canonical)))) == before, (hint, value)
        service.seen.clear()
        asyncio.run(read_twice(service, value))
        for seen in service.seen:
            assert shown((seen,)) == before, "the body sees the canonical value, each time, whatever it does to it"


async def read_twice(service: Any, value: Any) -> None:
    for _ in range(2):
        await service.method.invalidate(value)
        await service.method(value)
    assert len(service.seen) == 2
