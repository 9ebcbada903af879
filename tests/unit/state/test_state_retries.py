"""A.20: what goes wrong is shown, logged and tried again, and never ends a state."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from fusion_cluster import HandshakeRefused, Overloaded, ShardUnavailable
from fusion_cluster.state import BackoffDelayer, ComputedState, FixedDelayer, MutableState, UpdateDelayer
from fusion_cluster.testing import run_in_virtual_time

BACKOFF = BackoffDelayer(first_retry_delay_s=0.5, factor=2.0, max_retry_delay_s=3.0, jitter=0.0)


def now_s() -> float:
    return asyncio.get_running_loop().time()


class Attempts:
    """A computation that ends as it is told, attempt by attempt, and then with the number of the last attempt."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = errors
        self.times_s: list[float] = []

    async def __call__(self) -> int:
        self.times_s.append(now_s())
        count = len(self.times_s)
        if count <= len(self.errors):
            raise self.errors[count - 1]
        return count


async def first_value(state: ComputedState[int]) -> int:
    async for computed in state.changes():
        if computed.error is None:
            return computed.value
    raise AssertionError("the state has ended")


def attempts_s(
    attempts: Attempts, delayer: UpdateDelayer, *, is_transient: Callable[[Exception], bool] | None = None
) -> list[float]:
    """When each attempt was made, up to the first that succeeded."""

    async def main() -> list[float]:
        async with ComputedState(attempts, update_delayer=delayer, is_transient=is_transient) as state:
            await first_value(state)
            assert state.snapshot.retry_count == 0
            return attempts.times_s

    return run_in_virtual_time(main())


def test_retries_after_transient_errors_are_paced_by_the_delayer() -> None:
    errors = [ConnectionError() for _ in range(6)]
    assert attempts_s(Attempts(*errors), BACKOFF) == pytest.approx([0, 0.5, 1.5, 3.5, 6.5, 9.5, 12.5])
    assert attempts_s(Attempts(*errors[:2]), FixedDelayer()) == pytest.approx([0, 1, 2])


def test_a_delayer_that_waits_for_nothing_still_leaves_what_fails_a_moment() -> None:
    class Immediate:
        async def delay(self, retry_count: int) -> None:
            pass

    errors = [ConnectionError() for _ in range(4)]
    for delayer in (Immediate(), FixedDelayer(retry_delay_s=0.0)):
        assert attempts_s(Attempts(*errors), delayer) == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])


def test_a_success_and_an_error_that_is_not_transient_begin_the_count_anew() -> None:
    counts: list[int] = []

    class Counting(FixedDelayer):
        async def delay(self, retry_count: int) -> None:
            counts.append(retry_count)
            await super().delay(retry_count)

    async def main() -> None:
        source = MutableState(0)
        errors: dict[int, Exception] = {}
        attempt = 0

        async def compute() -> int:
            nonlocal attempt
            _ = source.value
            attempt += 1
            if attempt in errors:
                raise errors[attempt]
            return attempt

        errors.update(
            {1: ConnectionError(), 2: ShardUnavailable(), 4: TimeoutError(), 5: ValueError(), 6: ConnectionError()}
        )
        async with ComputedState(compute, update_delayer=Counting()) as state:
            await first_value(state)
            assert counts == [1, 2]
            source.set(1)
            async for computed in state.changes():
                if isinstance(computed.error, ValueError):
                    break
            assert counts == [1, 2, 0, 1]
            source.set(2)
            await first_value(state)
            assert counts == [1, 2, 0, 1, 0, 1]

    run_in_virtual_time(main())


def test_an_error_that_is_not_transient_stands_until_it_is_invalidated() -> None:
    async def main() -> None:
        source = MutableState(0)

        async def compute() -> int:
            if source.value == 0:
                raise ValueError
            return source.value

        async with ComputedState(compute) as state:
            await state.snapshot.when_updated()
            await asyncio.sleep(10)
            assert isinstance(state.error, ValueError)
            assert state.snapshot.update_count == 1
            source.set(3)
            assert await first_value(state) == 3
            assert now_s() == pytest.approx(10.0)

    run_in_virtual_time(main())


def test_an_error_that_nothing_invalidates_is_computed_anew_after_the_error_delay() -> None:
    assert attempts_s(Attempts(ValueError()), FixedDelayer(2.0)) == pytest.approx([0, 32])


def test_a_retry_waits_for_the_delay_that_the_error_carries() -> None:
    errors = [Overloaded(retry_after_s=5.0), ShardUnavailable(), Overloaded(retry_after_s=0.0)]
    assert attempts_s(Attempts(*errors), BACKOFF) == pytest.approx([0, 5.5, 6.5, 8.5])


def test_an_error_that_is_neither_transient_nor_kept_is_not_tried_without_end() -> None:
    attempts = Attempts(HandshakeRefused(), HandshakeRefused(retry_after_s=7.0))
    assert attempts_s(attempts, FixedDelayer()) == pytest.approx([0, 30, 37])


def test_an_error_that_is_neither_transient_nor_kept_gives_way_to_an_invalidation() -> None:
    async def main() -> None:
        attempts = Attempts(HandshakeRefused(), HandshakeRefused())
        async with ComputedState(attempts) as state:
            await asyncio.sleep(10)
            state.invalidate()
            await asyncio.sleep(10)
            state.update_now()
            await first_value(state)
        assert attempts.times_s == pytest.approx([0, 10, 20])

    run_in_virtual_time(main())


def test_a_reader_who_gets_a_value_earlier_ends_the_time_for_which_an_error_stands() -> None:
    async def main() -> None:
        source = MutableState(0)
        is_refused = True

        async def compute() -> int:
            if is_refused:
                raise HandshakeRefused
            return source.value

        async with ComputedState(compute, update_delayer=FixedDelayer(10.0)) as state:
            await asyncio.sleep(5)
            is_refused = False
            assert await state == 0
            await asyncio.sleep(1)
            source.set(1)
            await state.when(lambda value: value == 1)
            assert now_s() == pytest.approx(5 + 1 + 10)

    run_in_virtual_time(main())


def test_a_computation_that_is_cancelled_from_within_is_tried_again() -> None:
    attempts = Attempts(ConnectionError(), asyncio.CancelledError(), asyncio.CancelledError())
    assert attempts_s(attempts, BACKOFF) == pytest.approx([0, 0.5, 1.5, 3.5])
    assert attempts_s(Attempts(asyncio.CancelledError()), FixedDelayer()) == pytest.approx([0, 1])


def test_a_computation_that_raises_before_it_awaits_is_an_error_like_any_other() -> None:
    def compute() -> Coroutine[Any, Any, int]:
        raise LookupError("at once")

    async def main() -> None:
        async with ComputedState(compute) as state:
            await state.snapshot.when_updated()
            assert isinstance(state.error, LookupError)

    run_in_virtual_time(main())


def test_a_classifier_tells_what_is_transient() -> None:
    errors = [LookupError(), LookupError()]
    assert attempts_s(Attempts(*errors), BACKOFF, is_transient=lambda error: isinstance(error, LookupError)) == (
        pytest.approx([0, 0.5, 1.5])
    )


def test_a_classifier_that_raises_means_transient_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def classify(error: Exception) -> bool:
        raise ZeroDivisionError

    assert attempts_s(Attempts(ValueError(), ValueError()), BACKOFF, is_transient=classify) == pytest.approx(
        [0, 0.5, 1.5]
    )
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
    assert "classifier" in caplog.text


class Raising:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    async def delay(self, retry_count: int) -> None:
        raise self.error


class Synchronous:
    def delay(self, retry_count: int) -> None:
        """What somebody without a type checker writes."""


@pytest.mark.parametrize(
    "delayer", [Raising(ValueError()), Raising(TimeoutError()), Raising(asyncio.CancelledError()), Synchronous()]
)
def test_a_delayer_that_fails_is_logged_and_a_second_takes_its_place(
    delayer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        source = MutableState(0)

        async def compute() -> int:
            return source.value

        async with ComputedState(compute, update_delayer=delayer, name="rate") as state:
            for value in range(1, 4):
                await state.when(lambda shown, last=value - 1: shown == last)  # type: ignore[misc]
                source.set(value)
            await state.when(lambda shown: shown == 3)
            assert now_s() == pytest.approx(3.0)

    run_in_virtual_time(main())
    assert len(caplog.records) == 3
    assert all("the delayer of ComputedState.rate" in record.message for record in caplog.records)


def test_a_cached_error_of_what_the_state_depends_on_costs_no_attempt_of_that() -> None:
    async def main() -> None:
        source = MutableState(0)
        source.set_error(ConnectionError())

        async def compute() -> int:
            return source.value

        async with ComputedState(compute, update_delayer=BACKOFF) as state:
            await asyncio.sleep(10)
            assert state.snapshot.retry_count >= 4
            source.set(1)
            assert await first_value(state) == 1
            assert now_s() <= 10.0 + 3.0
            assert state.snapshot.retry_count == 0

    run_in_virtual_time(main())
