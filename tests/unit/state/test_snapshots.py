"""What a state shows at one moment: the latest computed, the last value, the counts."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from fusion_cluster import ComputeService, UsageError, compute_method
from fusion_cluster.bodies.attaching import attach
from fusion_cluster.graph import Graph, GraphHosting
from fusion_cluster.state import ComputedState, FixedDelayer, MutableState, StateSnapshot
from fusion_cluster.testing import run_in_virtual_time


def counts(snapshot: StateSnapshot[int]) -> tuple[int, int, int]:
    return snapshot.update_count, snapshot.error_count, snapshot.retry_count


async def test_a_snapshot_counts_updates_errors_and_retries_and_keeps_the_last_value() -> None:
    source = MutableState(1)

    async def compute() -> int:
        return source.value

    async with ComputedState(compute) as state:
        empty = state.snapshot
        assert empty.is_initial
        assert empty.computed is None
        assert counts(empty) == (0, 0, 0)
        with pytest.raises(UsageError, match="no value yet"):
            _ = empty.last_value
        assert await state == 1
        first = state.snapshot
        assert not first.is_initial
        assert first.computed is first.last_successful is state.computed
        assert counts(first) == (1, 0, 0)

        steps: list[tuple[Exception, tuple[int, int, int]]] = [
            (ConnectionError(), (2, 1, 1)),
            (ConnectionError(), (3, 2, 2)),
            (ValueError(), (4, 3, 0)),  # not transient
            (ConnectionError(), (5, 4, 1)),
        ]
        for error, expected in steps:
            source.set_error(error)
            with pytest.raises(type(error)):
                await state
            assert state.snapshot.computed is not None
            assert state.snapshot.computed.error is error
            assert state.snapshot.last_successful is first.computed
            assert state.snapshot.last_value == 1
            assert counts(state.snapshot) == expected
        source.set(2)
        assert await state == 2
        assert counts(state.snapshot) == (6, 4, 0)
        assert state.snapshot.last_value == 2
        assert (first.last_value, counts(first)) == (1, (1, 0, 0))  # as it was


async def test_a_snapshot_cannot_be_changed() -> None:
    snapshot = MutableState(1).snapshot
    with pytest.raises(dataclasses.FrozenInstanceError):
        snapshot.update_count = 2  # type: ignore[misc]


def test_a_snapshot_tells_when_there_is_a_later_one() -> None:
    async def main() -> None:
        source = MutableState(1)

        async def compute() -> int:
            return source.value

        async with ComputedState(compute, update_delayer=FixedDelayer(10.0)) as state:
            empty = state.snapshot
            await empty.when_updated()
            assert state.value == 1
            first = state.snapshot
            waiting = asyncio.create_task(first.when_updated())
            source.set(2)
            await asyncio.sleep(5)
            assert not waiting.done()  # out of date, not yet updated
            await waiting
            assert asyncio.get_running_loop().time() == pytest.approx(10.0)
            assert state.value == 2
            await first.when_updated()
            await empty.when_updated()
            last = state.snapshot
            waiting = asyncio.create_task(last.when_updated())
            await asyncio.sleep(0)
        with pytest.raises(UsageError, match="closed"):
            await waiting
        with pytest.raises(UsageError, match="closed"):
            await last.when_updated()
        await first.when_updated()  # it was, before the end

    run_in_virtual_time(main())


async def test_a_mutable_state_has_snapshots_too() -> None:
    state = MutableState(1)
    first = state.snapshot
    assert state.snapshot is first
    assert counts(first) == (0, 0, 0)
    assert first.last_value == 1
    assert first.computed is first.last_successful is state.computed
    waiting = asyncio.create_task(first.when_updated())
    await asyncio.sleep(0)
    state.set(1)
    assert state.snapshot is first
    await asyncio.sleep(0)
    assert not waiting.done()

    state.set(2)
    await waiting
    state.set_error(ValueError("first"))
    state.set_error(ConnectionError("second"))
    snapshot = state.snapshot
    assert counts(snapshot) == (3, 2, 0)
    assert snapshot.last_value == 2
    assert snapshot.computed is state.computed
    assert snapshot.last_successful is not state.computed

    state.set(3)
    assert counts(state.snapshot) == (4, 2, 0)
    assert state.snapshot.last_value == 3
    assert snapshot.last_value == 2


async def test_a_computed_invalidated_by_hand_is_no_update_of_a_mutable_state() -> None:
    state = MutableState(1)
    snapshot = state.snapshot
    waiting = asyncio.create_task(snapshot.when_updated())
    state.computed.invalidate()
    assert state.snapshot.computed is state.computed
    assert state.snapshot.last_successful is state.computed
    assert counts(state.snapshot) == (0, 0, 0)
    await asyncio.sleep(0)
    assert not waiting.done()
    state.set(2)
    await waiting


async def test_an_observer_of_the_old_computed_finds_the_new_snapshot() -> None:
    state = MutableState(1)
    seen: list[tuple[int, int]] = []
    assert state.snapshot.last_value == 1
    state.computed.on_invalidated(lambda _: seen.append((state.snapshot.last_value, state.snapshot.update_count)))
    state.set(2)
    assert seen == [(2, 1)]


async def test_what_reads_the_last_value_is_invalidated_when_there_is_another_one() -> None:
    class Labels(ComputeService):
        @compute_method
        async def label(self) -> str:
            return f"<{state.snapshot.last_value}>"

    state, graph, labels = MutableState(1), Graph(), Labels()
    attach(labels, GraphHosting(graph))
    assert await labels.label() == "<1>"
    state.set_error(ValueError())
    assert labels.label.peek() is None
    assert await labels.label() == "<1>"
    assert labels.label.peek() is not None  # the error is what it depends on
    state.set(2)
    assert labels.label.peek() is None
    assert await labels.label() == "<2>"
    await graph.close()
