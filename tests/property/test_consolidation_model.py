"""Random graphs of plain and consolidated methods against a model that recomputes everything.

- What rests on nothing consolidated is never stale.
- When all is quiet, every consistent computed is what the model computes, and so is every read.
- Who depends on a consolidated result, or observes it, hears that it is out of date only if it has changed.
- All invariants of the graph hold at any time.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusion_cluster.bodies.attaching import attach
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.graph import Computed, Graph, GraphHosting, compute_method
from fusion_cluster.graph.computing.consolidation import is_consolidated
from fusion_cluster.graph.computing.equality import is_same_output
from fusion_cluster.graph.core.context import current_computation
from fusion_cluster.graph.core.pure.history import OUT_OF_DATE
from fusion_cluster.graph.why.cause import EVICTED, Cause
from fusion_cluster.testing import run_in_virtual_time

CELLS = 3
QUIET_S = 1000.0
NEVER = float("inf")


@dataclass(frozen=True)
class Formula:
    """What one number is: the sum of others, and of an offset of its own, modulo `modulus`; or an error instead of 1.

    Attributes:
        delay_s: the consolidation delay; None: it is plain.
        uses: numbers of cells and of earlier formulas.
        modulus: small, so that different inputs often give the same.
        fails: whether it is an error instead of 1.
        work_s: how long it takes before each use.
    """

    delay_s: float | None
    uses: tuple[int, ...]
    modulus: int
    fails: bool
    work_s: float


Model = list[int | str]
"""Values of cells and formulas; for an error what it says."""


class Numbers(ComputeService):
    """The formulas as compute methods. `seen` are all computeds that were read; `done` what was computed, in order."""

    def __init__(self, graph: Graph, formulas: list[Formula]) -> None:
        self.graph = graph
        self.cells = [0] * CELLS
        self.offsets = [0] * (CELLS + len(formulas))
        self.formulas = formulas
        self.seen: dict[Computed[int], None] = {}
        self.done: list[tuple[int, Computed[int]]] = []

    # -- the model -----------------------------------------------------------------------------------------------------
    def model(self) -> Model:
        values: Model = list(self.cells)
        for formula in self.formulas:
            used = [values[use] for use in formula.uses]
            failed = [value for value in used if isinstance(value, str)]
            if failed:
                values.append(failed[0])
                continue
            total = self.offsets[len(values)] + sum(value for value in used if isinstance(value, int))
            value = total % formula.modulus
            values.append(f"failed {len(values)}" if formula.fails and value == 1 else value)
        return values

    def rests_on_consolidated(self, number: int) -> bool:
        if number < CELLS:
            return False
        formula = self.formulas[number - CELLS]
        return formula.delay_s is not None or any(self.rests_on_consolidated(use) for use in formula.uses)

    # -- the compute methods -------------------------------------------------------------------------------------------
    def method(self, number: int) -> Any:
        if number < CELLS:
            return self.cell
        delays = {None: self.plain, 0.0: self.in_the_next_turn, 1.0: self.soon, 3.0: self.later}
        return delays[self.formulas[number - CELLS].delay_s]

    def computed(self, number: int) -> Computed[int]:
        computed: Computed[int] = self.method(number)(number)
        self.seen[computed] = None
        return computed

    @compute_method
    async def cell(self, number: int) -> int:
        value = self.cells[number]
        await asyncio.sleep(0.1 * number)
        return value

    @compute_method(error_delay=NEVER)
    async def plain(self, number: int) -> int:
        return await self._compute(number)

    @compute_method(consolidation_delay=0, error_delay=NEVER)
    async def in_the_next_turn(self, number: int) -> int:
        return await self._compute(number)

    @compute_method(consolidation_delay=1, error_delay=NEVER)
    async def soon(self, number: int) -> int:
        return await self._compute(number)

    @compute_method(consolidation_delay=3, error_delay=NEVER)
    async def later(self, number: int) -> int:
        return await self._compute(number)

    async def _compute(self, number: int) -> int:
        node: Any = current_computation.get()
        formula = self.formulas[number - CELLS]
        try:
            total = self.offsets[number]
            for use in formula.uses:
                if formula.work_s:
                    await asyncio.sleep(formula.work_s)
                total += await self.computed(use)
            value = total % formula.modulus
            if formula.fails and value == 1:
                raise ValueError(f"failed {number}")
            return value
        finally:
            self.done.append((self.graph.registry.history.events()[-1][0], node))


# -- what is done ------------------------------------------------------------------------------------------------------
@st.composite
def formulas(draw: st.DrawFn) -> list[Formula]:
    count = draw(st.integers(2, 6))
    return [
        Formula(
            delay_s=draw(st.sampled_from([None, 0.0, 1.0, 3.0])),
            uses=tuple(use % (CELLS + index) for use in draw(st.lists(NUMBERS, min_size=1, max_size=3))),
            modulus=draw(st.integers(1, 3)),
            fails=draw(st.integers(0, 3)) == 3,
            work_s=draw(st.sampled_from([0.0, 0.0, 0.4, 1.5])),
        )
        for index in range(count)
    ]


NUMBERS = st.integers(0, 1000)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, CELLS - 1), st.integers(0, 5)),
        st.tuples(st.just("add"), st.integers(0, CELLS - 1), st.integers(0, 5)),
        st.tuples(st.just("wait"), st.sampled_from([0.0, 0.1, 0.5, 1.0, 3.5])),
        st.tuples(st.just("wait"), st.sampled_from([0.0, 0.1, 0.5, 1.0, 3.5])),
        st.tuples(st.just("read"), NUMBERS),
        st.tuples(st.just("watch"), NUMBERS),
        st.tuples(st.just("observe"), NUMBERS),
        st.tuples(st.just("forget"), NUMBERS),
        st.tuples(st.just("cancel"), NUMBERS),
        st.tuples(st.just("shift"), NUMBERS, st.integers(0, 5)),
        st.tuples(st.just("evict"), NUMBERS, st.booleans()),
    ),
    min_size=15,
    max_size=60,
)


async def read_of(computed: Computed[int]) -> int | str:
    try:
        return await computed
    except ValueError as error:
        return str(error)


def output_of(computed: Computed[int]) -> int | str:
    return str(computed.error) if computed.error is not None else computed.value


class Run:
    """One run of steps, and what must hold in it."""

    def __init__(self, numbers: Numbers) -> None:
        self.numbers = numbers
        self.graph = numbers.graph
        self.reads: list[asyncio.Task[int | str]] = []
        self.followers: list[asyncio.Task[None]] = []
        self.told: set[int] = set()

    def take(self, step: tuple[Any, ...]) -> None:
        numbers = self.numbers
        count = CELLS + len(numbers.formulas)
        match step:
            case ("add", cell, amount):
                numbers.cells[cell] += amount
                numbers.cell.invalidate(cell)
            case ("read", number):
                self.read(number % count)
            case ("watch", number):
                self.read(number % count)
                numbers.computed(number % count).on_invalidated(self.on_invalidated)
            case ("observe", number):
                numbers.computed(number % count).on_invalidated(self.on_invalidated)
            case ("forget", number):
                numbers.computed(number % count).remove_observer(self.on_invalidated)
            case ("cancel", number):
                if self.reads:
                    self.reads.pop(number % len(self.reads)).cancel()
            case ("shift", number, amount):
                numbers.offsets[number % count] += amount
                numbers.method(number % count).invalidate(number % count)
            case ("evict", number, is_source):
                function = numbers.method(number % count).function
                function = function.source if is_source and function.source else function
                node = function.table.get(number % count)
                if node is not None:
                    self.graph.invalidate_now(node, Cause(EVICTED))

    def read(self, number: int) -> None:
        self.reads.append(asyncio.get_running_loop().create_task(read_of(self.numbers.computed(number))))

    def follow(self, number: int) -> None:
        """Be interested in a number all the time."""

        async def follow() -> None:
            async for computed in self.numbers.computed(number).changes():
                self.numbers.seen[computed] = None

        self.followers.append(asyncio.get_running_loop().create_task(follow()))

    def on_invalidated(self, computed: Computed[int]) -> None:
        self.told.add(computed.version)

    def check(self) -> None:
        self.graph.validate()
        model = self.numbers.model()
        for node in self.graph.nodes():
            number = node.arguments[0]
            if node.is_consistent and not self.numbers.rests_on_consolidated(number):
                assert output_of(node) == model[number], f"{node} is stale"

    async def check_when_quiet(self) -> None:
        await asyncio.sleep(QUIET_S)
        self.check()
        assert all(read.done() for read in self.reads)
        model = self.numbers.model()
        for node in self.graph.nodes():
            assert node._computation is None, f"{node} is still computed"
            assert not is_consolidated(node)
            assert not node.is_consistent or output_of(node) == model[node.arguments[0]], f"{node} is stale"
        for number, expected in enumerate(model):
            assert await read_of(self.numbers.computed(number)) == expected

    def check_who_was_told(self) -> None:
        events = self.graph.registry.history.events()
        assert events[0][0] == 0, "the history is too short for this"
        reached_from = {event[5] for event in events if event[1] == OUT_OF_DATE}
        # One that was outdated while it was computed had no version then.
        targets = {
            node.version: node for node in self.numbers.seen if node.function.source is not None and node.version
        }
        for event in events:
            target = targets.get(event[4])
            if target is None or event[1] != OUT_OF_DATE or event[6].kind == EVICTED:
                continue
            if event[0] in reached_from or target.version in self.told:
                source = next(
                    node
                    for number, node in reversed(self.numbers.done)
                    if number < event[0] and node.function is target.function.source and node.table_key == event[3]
                )
                assert not is_same_output(target, source), f"{target} has not changed"


async def run(specification: list[Formula], followed: list[bool], steps: list[tuple[Any, ...]]) -> None:
    graph = Graph(history=100_000)
    numbers = Numbers(graph, specification)
    attach(numbers, GraphHosting(graph))
    this = Run(numbers)
    for number, is_followed in zip(range(CELLS, CELLS + len(specification)), followed, strict=False):
        if is_followed:
            this.follow(number)
    for step in steps:
        if step[0] == "wait":
            await asyncio.sleep(step[1])
        else:
            this.take(step)
        this.check()
    await this.check_when_quiet()
    this.check_who_was_told()
    for follower in this.followers:
        follower.cancel()
    await graph.close()
    graph.validate()
    assert graph.stats.nodes == 0


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(formulas(), st.lists(st.booleans(), min_size=6, max_size=6), STEPS)
def test_consolidated_graphs_agree_with_a_model_that_recomputes_everything(
    specification: list[Formula], followed: list[bool], steps: list[tuple[Any, ...]]
) -> None:
    run_in_virtual_time(run(specification, followed, steps))


@pytest.mark.parametrize("delay_s", [0.0, 1.0, 3.0])
def test_the_model_sees_what_it_is_for(delay_s: float) -> None:
    """Both verdicts happen: an equal value tells nobody, another one does."""

    async def main() -> None:
        graph = Graph(history=100_000)
        numbers = Numbers(graph, [Formula(delay_s, (0,), 2, False, 0.0), Formula(None, (3,), 3, False, 0.0)])
        attach(numbers, GraphHosting(graph))
        this = Run(numbers)
        for amount, is_told in ((1, True), (2, False), (3, True)):
            top = numbers.computed(4)
            await top
            this.take(("add", 0, amount))
            await asyncio.sleep(5)
            assert top.is_consistent != is_told
        this.check_who_was_told()
        await graph.close()

    run_in_virtual_time(main())
