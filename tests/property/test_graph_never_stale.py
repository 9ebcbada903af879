"""The graph against a naive model that recomputes everything, under every interleaving that hypothesis can think of.

Bodies stop at each step until the machine lets them go on, so that writes, reads, cancellations, evictions and
invalidations fall between any two steps. After each rule:

- every consistent computed is what the model computes now (*never stale*, the one promise);
- every read that has ended was given what is at least as new as the moment when it began;
- every observer was told once if its computed is invalidated, and not at all if not;
- all invariants of the graph hold.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from fusion_cluster.errors import CircularDependencyError, ShardUnavailable
from fusion_cluster.graph import Computed, ComputeService, Graph, GraphHosting, attach, compute_method, gather, isolated
from fusion_cluster.state import MutableState
from tests.virtual_time import VirtualTimeLoop

CELLS = ("x0", "x1", "x2", "x3")
DERIVED = ("sum", "choice", "failing", "lost", "rescue", "knot", "tangle", "hidden", "tasks", "level", "top")

Value = frozenset[tuple[str, int]]
"""Which cells were read, and at which version each."""


class Model:
    """The data, and what each derived value is, computed anew each time."""

    def __init__(self) -> None:
        self.versions = dict.fromkeys((*CELLS, "state"), 0)

    def cell(self, name: str) -> Value:
        return frozenset({(name, self.versions[name])})

    def evaluate(self, name: str, path: tuple[str, ...] = ()) -> Value | type[Exception]:
        if name in self.versions:
            return self.cell(name)
        if name in path:
            return CircularDependencyError
        used: Value = frozenset()
        for step in steps(name, self.versions):
            if step == "catch":
                continue
            part = step if isinstance(step, type) else self.evaluate(step, (*path, name))
            if isinstance(part, type):
                if name == "rescue":
                    continue
                return part
            used |= part
        return used


def steps(name: str, versions: dict[str, int]) -> list[str | type[Exception]]:
    """What a derived value reads, or raises, in order; later steps may hang on the versions of earlier ones."""
    match name:
        case "sum":
            return ["x0", "x1"]
        case "choice":
            return ["x0", "x1" if versions["x0"] % 2 else "x2"]
        case "failing":
            return ["x3", *([ValueError] if versions["x3"] % 2 else [])]
        case "lost":
            return ["x3", *([ShardUnavailable] if versions["x3"] % 3 == 1 else [])]
        case "rescue":
            return ["failing", "lost", "x2"]
        case "knot":
            return ["x0", *(["tangle"] if versions["x0"] % 3 == 2 else [])]
        case "tangle":
            return ["x1", *(["knot"] if versions["x1"] % 3 == 2 else [])]
        case "hidden":
            return ["x1"]
        case "tasks":
            return ["x0", "sum"]
        case "level":
            return ["state", "x0"]
        case _:
            return ["sum", "choice", "level", "tasks", "rescue"]


class Sheet(ComputeService):
    """What the model describes, as compute methods whose bodies stop at each step."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.state = MutableState(0)
        self.stopped: list[asyncio.Future[None]] = []
        self.background: set[asyncio.Task[Any]] = set()

    async def stop(self) -> None:
        gate = asyncio.get_running_loop().create_future()
        self.stopped.append(gate)
        try:
            await gate
        finally:
            if gate in self.stopped:
                self.stopped.remove(gate)

    def computed(self, name: str) -> Computed[Value]:
        return self.cell(name) if name in CELLS else self.derived(name)

    @compute_method
    async def cell(self, name: str) -> Value:
        value = self.model.cell(name)
        await self.stop()
        return value

    @compute_method
    async def derived(self, name: str) -> Value:
        await self.stop()
        seen: dict[str, int] = {}
        used: Value = frozenset()
        taken = 0
        while True:
            # What comes next may hang on what was read, as it was read.
            plan = steps(name, {**dict.fromkeys(self.model.versions, 0), **seen})
            if taken == len(plan):
                return used
            step = plan[taken]
            taken += 1
            try:
                part = await self._take(name, step)
            except (ValueError, ShardUnavailable):
                if name != "rescue":
                    raise
                continue
            used |= part
            seen.update(part)
            await self.stop()

    async def _take(self, name: str, step: str | type[Exception]) -> Value:
        if isinstance(step, type):
            raise step(name)
        if step == "state":
            return frozenset({("state", self.state.value)})
        if name == "hidden":
            with isolated():
                await self.computed("x2")
        if name == "tasks":
            task = asyncio.create_task(self._read(step))
            self._leave_behind()
            return await task
        if name == "top":
            return frozenset[tuple[str, int]]().union(*await gather(self.computed(step), self.computed("x1")))
        return await self.computed(step)

    async def _read(self, name: str) -> Value:
        return await self.computed(name)

    def _leave_behind(self) -> None:
        """Read something in a task that may outlive this body: it must not become a dependency then."""
        task = asyncio.create_task(self._swallow("x3"))
        self.background.add(task)
        task.add_done_callback(self.background.discard)

    async def _swallow(self, name: str) -> None:
        with contextlib.suppress(Exception):
            await self.computed(name)


@dataclass
class Read:
    name: str
    at_least: dict[str, int]
    task: asyncio.Task[Any]
    is_cancelled: bool = False


@dataclass
class Observation:
    computed: Computed[Any]
    told: Counter[str] = field(default_factory=Counter)

    def observer(self, _: Computed[Any]) -> None:
        self.told["times"] += 1


class NeverStale(RuleBasedStateMachine):
    reads = Bundle("reads")
    handles = Bundle("handles")

    @initialize(max_nodes=st.sampled_from([1, 3, 8, 1000]))
    def begin(self, max_nodes: int) -> None:
        self.loop = VirtualTimeLoop()
        self.graph = Graph(max_nodes=max_nodes)
        self.model = Model()
        self.sheet = Sheet(self.model)
        attach(self.sheet, GraphHosting(self.graph))
        self.pending: list[Read] = []
        self.observations: list[Observation] = []

    # -- rules ---------------------------------------------------------------------------------------------------------
    @rule(name=st.sampled_from(CELLS))
    def write(self, name: str) -> None:
        self.model.versions[name] += 1
        self.run(self.sheet.cell.invalidate(name))

    @rule()
    def set_state(self) -> None:
        self.model.versions["state"] += 1
        self.sheet.state.set(self.model.versions["state"])

    @rule(target=reads, name=st.sampled_from((*CELLS, *DERIVED)))
    def start_read(self, name: str) -> Read:
        return self.begin_read(name, self.sheet._read(name))

    @rule(target=handles, name=st.sampled_from((*CELLS, *DERIVED)))
    def call(self, name: str) -> tuple[str, Computed[Value], dict[str, int]]:
        return name, self.sheet.computed(name), dict(self.model.versions)

    @rule(target=reads, handle=handles)
    def await_handle(self, handle: tuple[str, Computed[Value], dict[str, int]]) -> Read:
        name, computed, at_least = handle

        async def value_of() -> Value:
            return await computed

        read = self.begin_read(name, value_of())
        read.at_least = at_least
        return read

    @rule(target=reads, names=st.lists(st.sampled_from(DERIVED), min_size=1, max_size=3))
    def start_gather(self, names: list[str]) -> Any:
        first = self.begin_read("", self._gather(names))
        return multiple(first)

    @rule(read=consumes(reads))
    def cancel(self, read: Read) -> None:
        read.is_cancelled = read.task.cancel()

    @rule(name=st.sampled_from((*CELLS, *DERIVED)))
    def invalidate_by_hand(self, name: str) -> None:
        method = self.sheet.cell if name in CELLS else self.sheet.derived
        self.run(method.invalidate(name))

    @rule(name=st.sampled_from((*CELLS, *DERIVED)))
    def observe(self, name: str) -> None:
        observation = Observation(self.sheet.computed(name))
        observation.computed.on_invalidated(observation.observer)
        self.observations.append(observation)

    @rule(choice=st.integers(0, 100))
    def let_one_go_on(self, choice: int) -> None:
        stopped = self.sheet.stopped
        if stopped:
            gate = stopped[choice % len(stopped)]
            if not gate.done():
                gate.set_result(None)
        self.turn()

    @rule(turns=st.integers(1, 4))
    def turns(self, turns: int) -> None:
        for _ in range(turns):
            self.turn()

    @rule()
    def let_time_pass(self) -> None:
        self.run(asyncio.sleep(31))

    @rule(name=st.sampled_from(DERIVED))
    def read_to_the_end(self, name: str) -> None:
        """With nothing in between, a read gives exactly what the model says."""
        expected = self.model.evaluate(name)
        read = self.begin_read(name, self.sheet._read(name))
        self.settle()
        assert read.task.done(), f"{name} hangs"
        assert outcome(read.task) == expected

    # -- what holds always ---------------------------------------------------------------------------------------------
    @invariant()
    def all_invariants_hold(self) -> None:
        self.graph.validate()

    @invariant()
    def what_is_consistent_is_what_the_model_computes(self) -> None:
        for node in list(self.graph.nodes()):
            if node.is_consistent:
                actual = node.value if node.error is None else type(node.error)
                assert actual == self.model.evaluate(node.arguments[0]), f"{node} is stale"

    @invariant()
    def observers_are_told_once(self) -> None:
        for observation in self.observations:
            computed = observation.computed
            is_live = computed.function.table.get(computed.table_key) is computed
            assert observation.told["times"] == (0 if is_live else 1)

    @invariant()
    def reads_are_as_new_as_their_beginning(self) -> None:
        for read in [read for read in self.pending if read.task.done()]:
            self.pending.remove(read)
            if read.task.cancelled():
                assert read.is_cancelled
                continue
            value = outcome(read.task)
            if not isinstance(value, type):
                assert all(version >= read.at_least[name] for name, version in value)

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        try:
            self.settle()
            hanging = [read.name for read in self.pending if not read.task.done()]
            assert not hanging
            self.reads_are_as_new_as_their_beginning()
        finally:
            for read in self.pending:
                read.task.cancel()
            self.run(self.graph.close())
            self.turn()
            self.loop.close()
        self.graph.validate()
        assert self.graph.stats.nodes == 0

    # -- inside --------------------------------------------------------------------------------------------------------
    def begin_read(self, name: str, coroutine: Any) -> Read:
        read = Read(name, dict(self.model.versions), self.loop.create_task(coroutine))
        self.pending.append(read)
        return read

    async def _gather(self, names: list[str]) -> Value:
        parts = await gather(*(self.sheet.computed(name) for name in names))
        return frozenset[tuple[str, int]]().union(*parts)

    def run(self, awaitable: Any) -> None:
        async def main() -> None:
            await awaitable

        self.loop.run_until_complete(main())

    def turn(self) -> None:
        self.run(asyncio.sleep(0))

    def settle(self) -> None:
        """Let everything run until all that can end has ended."""
        for _ in range(2_000):
            for gate in list(self.sheet.stopped):
                if not gate.done():
                    gate.set_result(None)
            if not self.sheet.stopped and not self.sheet.background and all(read.task.done() for read in self.pending):
                return
            self.turn()


def outcome(task: asyncio.Task[Any]) -> Any:
    error = task.exception()
    return task.result() if error is None else type(error)


TestNeverStale = NeverStale.TestCase
TestNeverStale.settings = settings(
    max_examples=150, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)
