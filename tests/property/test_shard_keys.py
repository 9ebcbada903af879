"""The shard key: equal arguments have one turn key and one slot, of reads and of commands, for every supported hint.

Arguments are equal if they are one key, byte for byte, as those of compute methods are. In a command, where they travel
as they are, all spellings of one value have one shard key.
"""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, reject, settings

from fusion_cluster import ComputeService, command, compute_method
from fusion_cluster.catalogue.catalogue import methods_of
from fusion_cluster.catalogue.method import Method
from fusion_cluster.catalogue.slots import SLOT_COUNT, slot_of
from fusion_cluster.errors import InvalidArgument, UsageError
from tests.property.hinted_values import HINTS, values

SHARD_BY: dict[str, Any] = {
    "the first": None,
    "a name": "value",
    "a function": lambda value, other: (value, other % 2),
    "one that fails for some": lambda value, other: 1 / (value == 1) if isinstance(value, int) else value,
    "a text of it": lambda value, other: repr(value) if isinstance(value, int | float | str | bytes) else "other",
}


def methods_for(hint: Any, shard_by: Any) -> tuple[Method, Method]:
    """A read and a command of one service whose first parameter has the hint."""

    async def get(self: Any, value: Any, other: int = 0) -> int:
        return 1

    async def put(self: Any, value: Any, other: int = 0) -> None: ...

    get.__annotations__["value"] = put.__annotations__["value"] = hint

    class Seen(ComputeService):
        read = compute_method(shard_by=shard_by)(get)
        write = command(shard_by=shard_by)(put)

    read, write = methods_of(Seen)
    try:
        read.require_codecs()
        write.require_codecs()
    except UsageError:
        reject()  # values of the hint cannot be told apart when encoded
    return read, write


def canonical(method: Method, value: Any) -> tuple[Any, ...] | None:
    try:
        return method.signature.bind((value,), {})
    except InvalidArgument:
        return None


@st.composite
def hints_with_values(draw: st.DrawFn) -> tuple[Any, list[Any]]:
    hint = draw(HINTS)
    return hint, draw(st.lists(values(hint), min_size=2, max_size=4))


@given(hints_with_values(), st.sampled_from(sorted(SHARD_BY)))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_equal_arguments_have_one_turn_key_and_one_slot(drawn: tuple[Any, list[Any]], shard_by: str) -> None:
    hint, raw = drawn
    read, write = methods_for(hint, SHARD_BY[shard_by])
    turns: dict[bytes, Any] = {}
    for value in raw:
        key = canonical(read, value)
        if key is None:
            continue
        encoded = read.arguments.encode(key)
        turn = read.turn_key(key)
        assert turns.setdefault(encoded, turn) == turn, (hint, value)
        sent = canonical(write, value)
        assert sent is not None, "what a key can be, a command can be given"
        assert write.turn_key(sent) == turn, "of one entity are read and command"
        arrived = write.arguments.decode_msgpack(write.arguments.encode(sent))
        assert write.turn_key(arrived) == turn, "in each process"
        assert read.slot(key) == write.slot(sent) == slot_of(*turn) < SLOT_COUNT


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 20)), min_size=2, max_size=20))
def test_commands_of_one_turn_key_share_a_slot(calls: list[tuple[str, int]]) -> None:
    class A(ComputeService):
        shard_group = "both"

        @command
        async def put(self, key: int) -> None: ...

    class B(ComputeService):
        shard_group = "both"

        @command(shard_by=lambda name, key: key)
        async def put(self, name: str, key: int) -> None: ...

    (a,), (b,) = methods_of(A), methods_of(B)
    slots: dict[Any, int] = {}
    for kind, key in calls:
        method, arguments = (a, (key,)) if kind == "a" else (b, ("name", key))
        turn = method.turn_key(arguments)
        assert slots.setdefault(turn, method.slot(arguments)) == method.slot(arguments)
        assert turn == a.turn_key((key,)), "a function that gives the argument itself is that argument"
