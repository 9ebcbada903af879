"""The two cores of the graph, in C and in Python, follow the same script: whatever can be seen of both is the same.

What is not told apart is what hangs on the order of a set: in which order the nodes of one invalidation are marked.
Three things follow from it:

- Which of the nodes that an invalidation sets free are evicted sooner: they enter the queue in that order. And where
  the hand stands if all nodes from its own to the newest go while others become the newest: it goes on to the first of
  these if that enters before the last of those is gone, else back to the oldest; the queues look alike. From then on
  victims are chosen by the test. If more are evicted before the step has ended, its script ends with it.
- Which events of an invalidation are the first to be forgotten, and so whether the cause of one of its nodes is still
  known while only some of them are. It is told apart when all of them are kept, or none.
- What the events of a step say if some of them are forgotten before it has ended.
"""

from __future__ import annotations

import enum
import importlib
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import hatch_build
from fusion_cluster.catalogue.signature import REQUIRED, Signature
from fusion_cluster.errors import InvalidArgument
from fusion_cluster.graph.core import pure
from fusion_cluster.graph.core.context import current_computation
from tests.property import graph_steps as steps
from tests.property.graph_steps import CHOOSING, Step
from tests.property.graph_twin import Function, Twin
from tests.thorough import times

EXAMPLES = math.ceil(int(os.environ.get("GRAPH_STEPS") or times(10_000, 100_000)) / 50)

pytestmark = pytest.mark.timeout(300 if EXAMPLES <= 200 else 0)

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
    module = importlib.import_module("fusion_cluster.graph.core._speed")
    module.set_context(current_computation)
    return module


class Twins:
    """Both cores, kept in step.

    Attributes:
        is_ordered: which node is the next victim is the same for both.
    """

    def __init__(self, speed: Any, max_nodes: int, history: int) -> None:
        self.is_ordered = True
        self.both = [Twin(core, max_nodes, history, lambda: self.is_ordered) for core in (speed, pure)]

    def take(self, step: Step, first: int, second: int) -> bool:
        """Take a step with both; tell whether they are still in step, for all that is defined."""
        if step in CHOOSING and not self.is_ordered:
            return True
        gave = [attempt(step, twin, first, second) for twin in self.both]
        for orders in zip(*(twin.orders for twin in self.both), strict=False):
            if orders[0] != orders[1]:
                assert Counter(orders[0]) == Counter(orders[1])
                return False
        assert gave[0] == gave[1]
        self.compare()
        return True

    def compare(self) -> None:
        native, python = self.both
        assert native.counters() == python.counters()
        assert native.new_events() == python.new_events()
        assert len(native.nodes) == len(python.nodes)
        for label in range(len(native.nodes)):
            assert native.of_node(label) == python.of_node(label)
        queues = native.queues(), python.queues()
        if queues[0] != queues[1] or native.may_hands_differ:
            self.is_ordered = False
        order = list if self.is_ordered else sorted
        assert [order(queue) for queue in queues[0]] == [order(queue) for queue in queues[1]]


def attempt(step: Step, twin: Twin, first: int, second: int) -> Any:
    try:
        return step(twin, first, second)
    except Exception as error:
        return type(error)


SCRIPTS = st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 40), st.integers(0, 40)), min_size=20, max_size=100)

Script = list[tuple[Step, int, int]]

SOME_EVENTS_FORGOTTEN: Script = [
    *[(steps.succeed, 11, 2), (steps.enter, 10, 19), (steps.net, 30, 13), (steps.clear_history, 33, 3)],
    *[(steps.set_timer, 5, 5), (steps.refuse, 13, 26), (steps.end_outdated, 12, 32), (steps.hit, 11, 8)],
    *[(steps.bound, 2, 29), (steps.evict, 35, 35), (steps.page_out, 29, 20), (steps.mark, 14, 38)],
    *[(steps.capture, 37, 8), (steps.set_timer, 26, 13), (steps.capture, 17, 37), (steps.bound, 25, 10)],
    *[(steps.heaviest_victim, 36, 3), (steps.unlink_one, 39, 22), (steps.hit, 14, 7), (steps.page_in, 25, 3)],
    *[(steps.capture, 40, 35), (steps.bound, 14, 30), (steps.clear_history, 5, 18), (steps.forget, 15, 17)],
    *[(steps.link, 28, 1), (steps.retain, 34, 38), (steps.unlink_one, 1, 16), (steps.set_timer, 26, 13)],
]
"""Three of the fourteen events of one invalidation are kept when a node captures one of those that it has reached."""

FREED_ONES_EVICTED_AT_ONCE: Script = [
    *[(steps.lookup, 0, key) for key in range(13)],
    *[(steps.link, user, 0) for user in range(7, 13)],
    *[(steps.link, user, user - 6) for user in range(7, 13)],
    *[(steps.retain, user, 0) for user in range(7, 13)],
    *[(steps.bound, 2, 0), (steps.lookup, 0, 30)],
]
"""Room for many is made: the first to go sets others free, and some of these go next."""

HAND_AT_THE_NEWEST: Script = [
    *[(steps.lookup, 0, key) for key in range(5)],
    *[(steps.link, 3, 0), (steps.link, 4, 0), (steps.link, 3, 1), (steps.hit, 0, 2), (steps.hit, 0, 3)],
    *[(steps.victim, 0, 0), (steps.mark, 0, 0), (steps.victim, 0, 0)],
]
"""The hand's node, the newest, goes in one invalidation with another that sets a third one free."""


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
@example(script=SOME_EVENTS_FORGOTTEN, max_nodes=20, history=3)
@example(script=FREED_ONES_EVICTED_AT_ONCE, max_nodes=1000, history=4096)
@example(script=HAND_AT_THE_NEWEST, max_nodes=1000, history=4096)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_both_cores_do_the_same(speed: ModuleType, script: Script, max_nodes: int, history: int) -> None:
    twins = Twins(speed, max_nodes, history)
    for step, first, second in script:
        if not twins.take(step, first, second):
            return


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
        is_raw = signature.codec.are_told_apart_by_python
        is_keyed = len(signature.parameter_names) == signature.positional_count == 1 and is_raw
        is_keyed = is_keyed and not signature.codec.may_hold_nan
        function = Function(signature.name, self.twin)
        table = core.Table(self.twin.registry, function, core.Node, is_keyed_by_argument=is_keyed, is_delayed=False)
        self.twin.tables.append(table)

        def find(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
            arguments = signature.bind(args, kwargs)
            return table.lookup(arguments[0] if is_keyed else arguments)

        rest = signature.names_for_callers, signature.defaults, REQUIRED, signature.positional_count
        return core.Call(table, find, None, self, *rest, signature.canonical_types, is_raw)

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
