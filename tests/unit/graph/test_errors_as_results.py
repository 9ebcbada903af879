"""A.9 and A.10: errors are results, for a while; cancellation never is."""

from __future__ import annotations

import asyncio
import gc
import math
import traceback
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from fusion_cluster.bodies.attaching import attach
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.errors import BodyExited, FusionError, ShardUnavailable, UsageError
from fusion_cluster.graph import Graph, GraphHosting, State, compute_method
from fusion_cluster.testing import run_in_virtual_time

Host = Callable[[Any], Any]


class RetryInError(Exception):
    def __init__(self, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s


class UnwillingError(Exception):
    @property
    def retry_after_s(self) -> float:
        raise RuntimeError


class TemporaryError(FusionError):
    is_transient = True


class Failing(ComputeService):
    """Fails with the errors it is given, then succeeds."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.runs = 0

    @compute_method
    async def get(self) -> int:
        self.runs += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.runs

    @compute_method
    async def twice(self) -> int:
        return 2 * await self.get()


@pytest.mark.parametrize(
    ("error", "delay_s"),
    [
        (ValueError("permanent"), 30.0),
        (KeyError("permanent"), 30.0),
        (UsageError("permanent"), 30.0),
        (TemporaryError("transient"), 1.0),
        (ConnectionResetError("transient"), 1.0),
        (TimeoutError("transient"), 1.0),
        (RetryInError(7.0), 7.0),
        (FusionError("its own delay wins", retry_after_s=3.0), 3.0),
        (UnwillingError("who asks is told nothing"), 1.0),
    ],
)
def test_an_error_stands_for_its_delay_and_is_then_computed_anew(error: Exception, delay_s: float) -> None:
    async def main() -> None:
        graph, failing = Graph(), Failing(error)
        attach(failing, GraphHosting(graph))
        loop = asyncio.get_running_loop()
        for _ in range(3):
            with pytest.raises(type(error)):
                await failing.twice()
        computed = failing.twice.peek()
        assert computed is not None
        assert computed.error is error
        assert failing.runs == 1
        started_s = loop.time()
        await computed.when_invalidated()
        assert loop.time() - started_s == pytest.approx(delay_s)
        assert await failing.twice() == 4
        graph.validate()
        await graph.close()

    run_in_virtual_time(main())


def test_the_delays_are_options_of_the_method() -> None:
    class Patient(Failing):
        @compute_method(transient_error_delay=5.0, error_delay=math.inf)
        async def get(self) -> int:
            raise self.errors[0]

    async def main() -> None:
        loop = asyncio.get_running_loop()
        graph, patient = Graph(), Patient(TemporaryError())
        attach(patient, GraphHosting(graph))
        await patient.get().update()
        await patient.get().when_invalidated()
        assert loop.time() == pytest.approx(5.0)
        patient.errors = [ValueError()]
        computed = await patient.get().update()
        await asyncio.sleep(1e6)
        assert computed.is_consistent
        await graph.close()

    run_in_virtual_time(main())


def test_a_classifier_that_raises_means_transient() -> None:
    def confused(error: Exception) -> bool:
        raise RuntimeError("cannot tell")

    async def main() -> None:
        graph, failing = Graph(is_transient=confused), Failing(ValueError())
        attach(failing, GraphHosting(graph))
        await (await failing.get().update()).when_invalidated()
        assert asyncio.get_running_loop().time() == pytest.approx(1.0)
        await graph.close()

    run_in_virtual_time(main())


def test_an_error_that_its_classifier_invalidates_does_not_come_back() -> None:
    class Doubtful(ComputeService):
        @compute_method
        async def source(self) -> int:
            return 1

        @compute_method
        async def failing(self) -> int:
            raise ValueError(await self.source())

    doubtful = Doubtful()

    def meddles(error: Exception) -> bool:
        doubtful.source.invalidate()
        return False

    async def main() -> None:
        graph = Graph(is_transient=meddles)
        attach(doubtful, GraphHosting(graph))
        failed = await doubtful.failing().update()
        assert isinstance(failed.error, ValueError)
        assert not failed.is_consistent
        assert doubtful.failing.peek() is None
        graph.validate()
        await graph.close()

    run_in_virtual_time(main())


def test_a_delay_of_zero_keeps_nothing() -> None:
    class Impatient(Failing):
        @compute_method(error_delay=0.0)
        async def get(self) -> int:
            self.runs += 1
            raise ValueError

    async def main() -> None:
        graph, impatient = Graph(), Impatient()
        attach(impatient, GraphHosting(graph))
        for runs in (1, 2):
            computed = await impatient.get().update()
            assert isinstance(computed.error, ValueError)
            assert computed.state is State.INVALIDATED
            assert impatient.runs == runs
        await graph.close()

    run_in_virtual_time(main())


async def test_an_error_that_is_not_memoized_is_given_and_born_invalidated(host: Host, graph: Graph) -> None:
    failing: Failing = host(Failing(ShardUnavailable("gone"), ShardUnavailable("gone again")))
    states: list[State] = []
    computed = failing.get()
    computed.join(lambda told: states.append(told.state))
    with pytest.raises(ShardUnavailable, match="gone"):
        await computed
    assert states == [State.INVALIDATED]
    assert isinstance(computed.error, ShardUnavailable)
    assert graph.stats.nodes == 0
    with pytest.raises(ShardUnavailable, match="gone again"):
        await failing.twice()
    assert graph.stats.nodes == 0  # nor is what was computed from it
    assert await failing.twice() == 6


async def test_a_cancellation_raised_inside_is_never_memoized(host: Host, graph: Graph) -> None:
    failing: Failing = host(Failing(asyncio.CancelledError(), asyncio.CancelledError()))
    with pytest.raises(asyncio.CancelledError):
        await failing.get()
    computed = failing.twice()
    with pytest.raises(asyncio.CancelledError):
        await computed
    assert computed.state is State.INVALIDATED
    assert not computed.has_output
    assert graph.stats.nodes == 0
    assert await failing.get() == 3


async def test_one_who_recovers_from_a_cancellation_inside_is_not_memoized_either(host: Host) -> None:
    class Recovering(ComputeService):
        @compute_method
        async def get(self) -> int:
            try:
                return await failing.get()
            except asyncio.CancelledError:
                return -1

    failing: Failing = host(Failing(asyncio.CancelledError()))
    recovering: Recovering = host(Recovering())
    assert await recovering.get() == -1
    assert await recovering.get() == 2


async def test_a_cancelled_caller_memoizes_nothing(host: Host, graph: Graph) -> None:
    class Slow(ComputeService):
        @compute_method
        async def get(self) -> None:
            entered.set()
            await asyncio.Event().wait()

    entered = asyncio.Event()
    slow: Slow = host(Slow())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await slow.get()
    assert entered.is_set()
    assert graph.stats.nodes == 0


async def test_raising_a_memoized_error_again_does_not_grow_its_traceback(host: Host) -> None:
    failing: Failing = host(Failing(ValueError("once")))
    lengths = set()
    for _ in range(5):
        with pytest.raises(ValueError, match="once") as caught:
            await failing.get()
        lengths.add(len(traceback.extract_tb(caught.value.__traceback__)))
    assert len(lengths) == 1
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "get"


async def test_a_value_is_freed_with_its_computed_without_the_garbage_collector(host: Host) -> None:
    class Value:
        pass

    class Values(ComputeService):
        @compute_method
        async def get(self, fails: bool) -> Value:
            value = Value()
            values.append(weakref.ref(value))
            if fails:
                raise ValueError(value)
            return value

        @compute_method
        async def hold(self, fails: bool) -> bool:
            try:
                await self.get(fails)
            except ValueError:
                return False
            return True

    values: list[weakref.ref[Value]] = []
    service: Values = host(Values())
    gc.collect()
    gc.disable()
    try:
        for fails in (False, True):
            await service.hold(fails)
            assert values[-1]() is not None
            service.get(fails).invalidate()
            await asyncio.sleep(0)
            assert values[-1]() is None
    finally:
        gc.enable()


async def test_what_is_not_an_exception_is_named_and_kept_like_other_errors(host: Host) -> None:
    class Odd(BaseException):
        pass

    failing: Failing = host(Failing(Odd("number 3")))
    for _ in range(2):
        with pytest.raises(BodyExited, match=r"Failing\.twice|Failing\.get raised Odd: number 3") as caught:
            await failing.twice()
        assert isinstance(caught.value.__cause__, Odd)
    assert failing.runs == 1
