"""The two cores of the graph, in C and in Python, follow the same script: whatever can be seen of both is the same.

What is not told apart is what hangs on the order of a set: in which order the nodes of one invalidation are marked, and
so which of those that it sets free is evicted sooner. From then on victims are chosen by the test.
"""

from __future__ import annotations

import enum
import importlib
import math
import os
from collections.abc import Mapping, Sequence
from decimal import Decimal
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import hatch_build
from fusion_cluster.errors import InvalidArgument
from fusion_cluster.graph import REQUIRED, Signature, pure
from fusion_cluster.graph.context import current_computation
from tests.property import graph_twin as steps
from tests.property.graph_twin import CHOOSING, Function, Step, Twin

EXAMPLES = math.ceil(int(os.environ.get("GRAPH_STEPS", "10000")) / 50)

STEPS = (
    *(steps.lookup, steps.lookup, steps.lookup, steps.enter, steps.hit, steps.hit, steps.hit_unhashable),
    *(steps.begin, steps.succeed, steps.succeed, steps.succeed, steps.fail, steps.end_outdated),
    *(steps.link, steps.link, steps.link, steps.unlink, steps.unlink_one, steps.capture, steps.capture, steps.net),
    *(steps.mark, steps.mark, steps.observe, steps.set_timer, steps.weigh, steps.page_out, steps.page_in, steps.retain),
    *(steps.release, steps.set_timer, steps.mark),
    *(steps.forget, steps.bound, steps.refuse, steps.clear_history, steps.last_invalidation),
    *(steps.victim, steps.heaviest_victim, steps.evict),
)


@pytest.fixture(scope="module")
def speed() -> ModuleType:
    if hatch_build.compiler() is None:
        pytest.skip("there is no compiler, and so no core in C")
    module = importlib.import_module("fusion_cluster.graph._speed")
    module.set_context(current_computation)
    return module


class Twins:
    """Both cores, kept in step."""

    def __init__(self, speed: Any, max_nodes: int, history: int) -> None:
        self.is_ordered = True
        self.both = [Twin(core, max_nodes, history, lambda: self.is_ordered) for core in (speed, pure)]

    def take(self, step: Step, first: int, second: int) -> None:
        if step in CHOOSING and not self.is_ordered:
            return
        gave = [attempt(step, twin, first, second) for twin in self.both]
        assert gave[0] == gave[1]
        self.compare()

    def compare(self) -> None:
        native, python = self.both
        assert native.counters() == python.counters()
        assert native.new_events() == python.new_events()
        assert len(native.nodes) == len(python.nodes)
        for label in range(len(native.nodes)):
            assert native.of_node(label) == python.of_node(label)
        queues = native.queues(), python.queues()
        if self.is_ordered and queues[0] != queues[1]:
            self.is_ordered = False
        order = list if self.is_ordered else sorted
        assert [order(queue) for queue in queues[0]] == [order(queue) for queue in queues[1]]


def attempt(step: Step, twin: Twin, first: int, second: int) -> Any:
    try:
        return step(twin, first, second)
    except Exception as error:
        return type(error)


SCRIPTS = st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 40), st.integers(0, 40)), min_size=20, max_size=100)


@given(script=SCRIPTS, max_nodes=st.sampled_from([2, 5, 20, 1000]), history=st.sampled_from([0, 3, 17, 4096]))
@example(
    script=[
        (step, 0, key)
        for key, step in enumerate([steps.lookup, steps.retain, steps.lookup, steps.victim, steps.release])
    ],
    max_nodes=1000,
    history=17,
)
@example(script=[(steps.net, 30, 30), (steps.unlink_one, 3, 4), (steps.net, 40, 35)], max_nodes=1000, history=17)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_both_cores_do_the_same(
    speed: ModuleType, script: list[tuple[Step, int, int]], max_nodes: int, history: int
) -> None:
    twins = Twins(speed, max_nodes, history)
    for step, first, second in script:
        twins.take(step, first, second)


class Methods:
    """Methods that can be called in many ways."""

    def none(self) -> None: ...
    def one(self, a: int) -> None: ...
    def text(self, a: str) -> None: ...
    def real(self, a: float = 0.5) -> None: ...
    def flag(self, a: bool) -> None: ...
    def maybe(self, a: int | None = None) -> None: ...
    def two(self, a: str, b: int = 3) -> None: ...
    def kinds(self, a: int, /, b: int = 2, *, c: str = "c") -> None: ...
    def named(self, *, a: int, b: int = 1) -> None: ...
    def loose(self, a: Any, b: int = 1) -> None: ...
    def pairs(self, a: tuple[int, ...], b: frozenset[str] = frozenset()) -> None: ...
    def many(
        self, a: int, b: int = 1, c: int = 2, d: int = 3, e: int = 4, f: int = 5, g: int = 6, h: int = 7, i: int = 8
    ) -> None: ...


class Size(enum.IntEnum):
    SMALL = 1


class Text(str):
    """A text that is no `str` by its type."""

    __slots__ = ()


ARGUMENTS: list[Any] = [
    *(0, 1, 2, 3, -1, 10**9, 10**30, 1.0, 0.5, 0.0, -0.0, math.nan, True, False, None, Size.SMALL, Decimal(1)),
    *("a", "c", Text("a"), "日", b"a", (1, 2), (True, 2.0), (), frozenset({"a"}), [1], {}, object(), Ellipsis),
]
METHODS = [name for name in vars(Methods) if not name.startswith("_")]
Call = tuple[str, list[int], dict[str, int]]


class Callee:
    """The methods, bound by one core."""

    def __init__(self, core: Any) -> None:
        self.twin = Twin(core, 1000, 10, lambda: True)
        self.calls = {name: self._bind(core, Signature(getattr(Methods, name), name)) for name in METHODS}

    def _bind(self, core: Any, signature: Signature) -> Any:
        is_keyed = len(signature.parameter_names) == signature.positional_count == 1 and not signature.is_ambiguous
        function = Function(signature.name, self.twin)
        table = core.Table(self.twin.registry, function, core.Node, is_keyed_by_argument=is_keyed, is_delayed=False)
        self.twin.tables.append(table)

        def find(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
            arguments = signature.bind(args, kwargs)
            return table.lookup(arguments[0] if is_keyed else arguments)

        rest = signature.names_for_callers, signature.defaults, REQUIRED, signature.positional_count
        return core.Call(table, find, None, self, *rest, signature.canonical_types)

    def call(self, method: str, args: list[int], kwargs: dict[str, int]) -> Any:
        named = {"".join(list(name)): ARGUMENTS[value] for name, value in kwargs.items()}
        try:
            return self.twin.label(self.calls[method](*(ARGUMENTS[value] for value in args), **named))
        except InvalidArgument as error:
            return error.field, str(error)


VALUES = st.integers(0, len(ARGUMENTS) - 1)
CALLS = st.tuples(
    st.sampled_from(METHODS),
    st.lists(VALUES, max_size=3),
    st.dictionaries(st.sampled_from("abcdiz"), VALUES, max_size=3),
)


@given(calls=st.lists(CALLS, min_size=10, max_size=60))
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_both_cores_take_calls_the_same(speed: ModuleType, calls: list[Call]) -> None:
    both = [Callee(core) for core in (speed, pure)]
    for call in calls:
        gave = [callee.call(*call) for callee in both]
        assert gave[0] == gave[1]
        assert both[0].twin.counters() == both[1].twin.counters()
    for label in range(len(both[0].twin.nodes)):
        arguments = [callee.twin.nodes[label].arguments for callee in both]
        assert repr(arguments[0]) == repr(arguments[1])
        assert type(arguments[0]) is type(arguments[1])
