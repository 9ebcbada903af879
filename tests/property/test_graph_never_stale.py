"""The graph against a naive model that recomputes everything, under every interleaving that hypothesis can think of.

Bodies stop at each step until the machine lets them go on, so that writes, reads, cancellations, evictions, expiries
and invalidations fall between any two steps. After each rule:

- every consistent computed is what the model computes now, or may still hold for a delay that it was told
  (*never stale*, the one promise);
- every read that has ended was given what is at least as new as the moment when it began;
- every observer was told once if its computed is invalidated, and not at all if not;
- the bounds hold, as they do whenever an observer or an estimate of a size looks;
- all invariants of the graph hold.

`GRAPH_STEPS=200000 pytest tests/property/test_graph_never_stale.py` soaks it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from fusion_cluster.errors import CircularDependencyError, ShardUnavailable
from fusion_cluster.graph import Computed
from fusion_cluster.graph.core.hot_path import dependents_of
from fusion_cluster.graph.core.pure.history import OUT_OF_DATE
from tests.property.graph_model import (
    ATOMS,
    CELLS,
    CHAINS,
    DERIVED,
    NAMES,
    TAPS,
    TIMED,
    UNTRACKED,
    WIDES,
    Stubborn,
    Value,
)
from tests.property.graph_parties import Observation, Read, Refused, output_of
from tests.property.graph_sheet import Awkward
from tests.property.graph_stage import GraphStage
from tests.thorough import times

STEPS = int(os.environ.get("GRAPH_STEPS") or times(10_000, 100_000))
STEPS_AN_EXAMPLE = 60
READABLE = (*NAMES, *NAMES, *WIDES, *TAPS, *CHAINS)
KNOWN_ERRORS = (ValueError, ShardUnavailable, ConnectionError, Stubborn, CircularDependencyError)


class NeverStale(GraphStage, RuleBasedStateMachine):
    reads = Bundle("reads")
    handles = Bundle("handles")

    @initialize(
        max_nodes=st.sampled_from([1, 3, 8, 30, 1000]), max_bytes=st.sampled_from([math.inf, 1_500, 6_000, 15_000])
    )
    def begin(self, max_nodes: int, max_bytes: float) -> None:
        self.set_up(max_nodes, max_bytes)

    # -- changes -------------------------------------------------------------------------------------------------------
    @rule(name=st.sampled_from(ATOMS))
    def write(self, name: str) -> None:
        self.model.change(name)
        self.sheet.invalidate(name)

    @rule()
    def set_state(self) -> None:
        self.sheet.state.set(self.model.change("state"))

    @rule(name=st.sampled_from(UNTRACKED))
    def change_what_nothing_tracks(self, name: str) -> None:
        self.model.change(name)

    @rule(name=st.sampled_from(ATOMS))
    def assign(self, name: str) -> None:
        method, arguments = self.sheet.spelled(name)
        function = method.function
        function.assign_value(function.signature.bind(arguments, {}), self.model.read(name))

    @rule(name=st.sampled_from((*NAMES, *TAPS)))
    def invalidate_by_hand(self, name: str) -> None:
        self.sheet.invalidate(name)

    @rule(seconds=st.sampled_from([0.4, 1.0, 3.0, 5.0, 8.0, 31.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    # -- reads ---------------------------------------------------------------------------------------------------------
    @rule(target=reads, name=st.sampled_from(READABLE))
    def start_read(self, name: str) -> Read:
        return self.begin_read(name, self.sheet.read(name))

    @rule(target=reads, names=st.lists(st.sampled_from(DERIVED), min_size=1, max_size=3))
    def start_gather(self, names: list[str]) -> Read:
        return self.begin_read(" ".join(names), self.sheet.gather(names))

    @rule(target=handles, name=st.sampled_from(READABLE))
    def call(self, name: str) -> tuple[str, Computed[Value], dict[str, int]]:
        return name, self.sheet.computed(name), self.at_least(name)

    @rule(target=reads, handle=handles)
    def await_handle(self, handle: tuple[str, Computed[Value], dict[str, int]]) -> Read:
        name, computed, at_least = handle

        async def value_of() -> Value:
            return await computed

        read = self.begin_read(name, value_of())
        read.at_least = at_least
        return read

    @rule(target=reads, name=st.sampled_from(READABLE))
    def join(self, name: str) -> Read:
        read = Read(name, self.at_least(name))
        self.pending.append(read)

        async def main() -> None:
            read.waiter = self.sheet.computed(name).join(read.on_done)

        self.run(main())
        return read

    @rule(read=consumes(reads))
    def leave(self, read: Read) -> None:
        if read.task is not None:
            read.is_cancelled = read.task.cancel()
        elif not read.told and read.waiter is not None:
            read.is_cancelled = True
            read.waiter.leave()
            self.pending.remove(read)

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

    @rule(name=st.sampled_from(READABLE))
    def read_to_the_end(self, name: str) -> None:
        """With nothing in between, a read gives exactly what the model says."""
        expected = self.model.outcomes(name)
        versions = dict(self.model.versions)
        read = self.begin_read(name, self.sheet.read(name))
        self.settle()
        assert read.is_done, f"{name} hangs"
        if "quitter" not in name and versions == self.model.versions:  # or an observer has changed something
            assert read.outcome() in expected

    @rule(names=st.lists(st.sampled_from(READABLE), min_size=2, max_size=6))
    def hold(self, names: list[str]) -> None:
        """Read and observe: what is in use goes last, and its values before it."""
        for name in names:
            self.observe(name, 0, name)
            self.begin_read(name, self.sheet.read(name))
            self.settle()

    @rule(
        name=st.sampled_from(TIMED),
        changed=st.lists(st.sampled_from([*CELLS, *["leaf:0"] * 4]), max_size=4),
        is_bad=st.booleans(),
        seconds=st.sampled_from([0.4, 1.0, 3.0, 5.0, 8.0]),
    )
    def live_through(self, name: str, changed: list[str], is_bad: bool, seconds: float) -> None:
        """Read what time alone may change, let some of it pass, and look before anybody reads again."""
        if is_bad != self.model.is_weather_bad:
            self.model.change("weather")
        self.begin_read(name, self.sheet.read(name))
        self.settle()
        if self.model.is_weather_bad:
            self.model.change("weather")
        self.model.change("tide")
        for atom in changed:
            self.write(atom)
        self.let_time_pass(seconds)

    @precondition(lambda self: self.graph.max_bytes < math.inf)
    @rule(choice=st.integers(0, 100))
    def read_what_was_paged_out(self, choice: int) -> None:
        """It gives what the model says, and whoever depends on it does not notice."""
        self.on_size = None
        self.settle()
        paged_out = [node for node in self.nodes() if node.is_consistent and not node.has_output]
        if not paged_out:
            return
        node = paged_out[choice % len(paged_out)]
        dependents: list[Any] = dependents_of(node)
        name = self.name_of(node)
        expected = self.model.outcomes(name)
        version = node.version
        read = self.begin_read(name, self.sheet.read(name))
        self.settle()
        outcome = read.outcome()
        assert outcome in expected
        if node.is_consistent:
            assert node.version == version
        causes = {event[4]: event[6] for event in self.graph.registry.history.events() if event[1] == OUT_OF_DATE}
        for dependent in dependents:
            is_sound = dependent.is_consistent or isinstance(outcome, type)
            assert is_sound or causes[dependent.version].kind == "evicted"

    # -- observers, comparisons, sizes ---------------------------------------------------------------------------------
    @rule(name=st.sampled_from(READABLE), deed=st.integers(0, 6), other=st.sampled_from(NAMES))
    def observe_and_do(self, name: str, deed: int, other: str) -> None:
        self.observe(name, deed, other)

    def observe(self, name: str, deed: int, other: str) -> None:
        observation = Observation(self.sheet.computed(name), self.deed(deed, other))
        observation.computed.on_invalidated(observation.observer)
        self.observations.append(observation)

    @rule(choice=st.integers(0, 100))
    def stop_observing(self, choice: int) -> None:
        live = [observation for observation in self.observations if not observation.told]
        if live:
            observation = live[choice % len(live)]
            observation.computed.remove_observer(observation.observer)
            self.observations.remove(observation)

    @rule(
        name=st.sampled_from(["awkward:a", "awkward:b", "awkward:z"]),
        deed=st.integers(0, 6),
        other=st.sampled_from(NAMES),
    )
    def compare(self, name: str, deed: int, other: str) -> None:
        """A comparison of keys may raise, invalidate, or enter other nodes."""
        Awkward.on_compare = self.deed(deed, other)
        try:
            self.sheet.computed(name)
        except Refused:
            pass
        finally:
            Awkward.on_compare = None

    @precondition(lambda self: self.graph.max_bytes < math.inf)
    @rule(size=st.sampled_from([-1000, 0, 10**30]), deed=st.integers(0, 6), other=st.sampled_from(NAMES))
    def misjudge_the_next_size(self, size: int, deed: int, other: str) -> None:
        action = self.deed(deed, other)

        def on_size() -> int:
            action()
            return size

        self.on_size = on_size

    # -- what holds always ---------------------------------------------------------------------------------------------
    @invariant()
    def all_is_well(self) -> None:
        self.all_invariants_hold()
        self.what_is_consistent_is_what_the_model_computes()
        self.observers_are_told_once()
        self.reads_are_as_new_as_their_beginning()

    def all_invariants_hold(self) -> None:
        self.graph.validate()
        assert not self.failures, self.failures[0]

    def what_is_consistent_is_what_the_model_computes(self) -> None:
        expected: dict[str, Any] = {}
        for node in self.nodes():
            if node.is_consistent and node.has_output:
                name = self.name_of(node)
                if name not in expected:
                    expected[name] = self.model.outcomes(name)
                assert output_of(node) in expected[name], f"{node} is stale"

    def observers_are_told_once(self) -> None:
        for observation in self.observations:
            computed = observation.computed
            is_live = computed.function.table.get(computed.table_key) is computed
            assert observation.told["times"] == (0 if is_live else 1)

    def reads_are_as_new_as_their_beginning(self) -> None:
        for read in [read for read in self.pending if read.is_done]:
            self.pending.remove(read)
            assert len(read.told) <= 1
            outcome = read.outcome()
            if outcome is None:
                assert read.may_be_cancelled
            elif isinstance(outcome, type):
                assert issubclass(outcome, KNOWN_ERRORS)
            else:
                assert all(version >= read.at_least.get(name, 0) for name, version in outcome)

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        try:
            self.settle()
            assert not [read.name for read in self.pending if not read.is_done]
            self.reads_are_as_new_as_their_beginning()
        finally:
            self.on_size = None
            for read in self.pending:
                if read.task is not None:
                    read.task.cancel()
            self.run(self.graph.close())
            self.turn()
            self.loop.close()
            logging.disable(logging.NOTSET)
        self.graph.validate()
        assert self.graph.stats.nodes == 0
        assert not self.failures


TestNeverStale = pytest.mark.timeout(300 if STEPS <= 10_000 else 0)(NeverStale.TestCase)
TestNeverStale.settings = settings(
    max_examples=math.ceil(STEPS / STEPS_AN_EXAMPLE),
    stateful_step_count=STEPS_AN_EXAMPLE,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
