"""A.25: whatever a body raises reaches each of its callers as what it is, and nothing of another caller with it."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from fusion_cluster import App, MutableState, command
from fusion_cluster.bodies.facade import value_of
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.errors import BodyExited
from fusion_cluster.graph import ComputeMethod, Graph, compute_method, gather, isolated
from tests.faults.odd_errors import EXCEPTIONS, EXITS, Frozen, Odd, state_of

Host = Callable[[Any], Any]


class Raising(ComputeService):
    """Raises what it is told to, in every kind of body."""

    def __init__(self, make: Callable[[], BaseException]) -> None:
        self.make = make
        self.raised: BaseException | None = None
        self.runs = 0

    def fail(self) -> int:
        self.runs += 1
        self.raised = self.make()
        raise self.raised

    @compute_method
    async def at_once(self) -> int:
        return self.fail()

    @compute_method
    async def later(self) -> int:
        await asyncio.sleep(0)
        return self.fail()

    @compute_method
    def plain(self) -> int:
        return self.fail()

    @compute_method(offload="thread")
    def plain_in_a_thread(self) -> int:
        return self.fail()

    @compute_method(offload="thread")
    async def in_a_thread(self) -> int:
        return self.fail()

    @compute_method(consolidation_delay=0.01)
    async def consolidated(self) -> int:
        return self.fail()

    @compute_method
    async def used(self) -> int:
        return await self.later()

    @compute_method
    async def gathered(self) -> int:
        return (await gather(self.later(), self.at_once()))[0]

    @compute_method(offload="thread")
    def used_in_a_thread(self) -> int:
        return value_of(self.plain())

    @compute_method
    async def isolated_from(self) -> int:
        with isolated():
            return await self.later()


PLACES = [name for name, item in vars(Raising).items() if isinstance(item, ComputeMethod)]


async def caught_from(raising: Raising, place: str) -> BaseException:
    try:
        await getattr(raising, place)()
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize("kind", EXCEPTIONS)
@pytest.mark.parametrize("place", PLACES)
async def test_an_odd_error_reaches_each_caller_as_what_it_is(place: str, kind: str, host: Host) -> None:
    raising: Raising = host(Raising(EXCEPTIONS[kind]))
    callers = [asyncio.ensure_future(caught_from(raising, place)) for _ in range(2)]
    errors = [*await asyncio.gather(*callers), await caught_from(raising, place)]
    assert raising.raised is not None
    expected = state_of(raising.raised)
    for error in errors:
        assert state_of(error) == expected
    assert len({id(error) for error in errors}) == 3
    assert getattr(raising, place)().error is not None
    (given,) = await gather(getattr(raising, place)(), return_exceptions=True)
    assert state_of(given) == expected


@pytest.mark.parametrize("kind", EXITS)
@pytest.mark.parametrize("place", PLACES)
async def test_what_is_not_an_exception_becomes_an_error_that_names_it(place: str, kind: str, host: Host) -> None:
    raising: Raising = host(Raising(EXITS[kind]))
    for _ in range(2):
        error = await caught_from(raising, place)
        assert type(error) is BodyExited
        assert f"raised {kind}" in str(error)
        assert state_of(error.__cause__ or error)[0].__name__ == kind
    assert raising.runs <= 2, "it is kept as a result"
    assert any(frame.name == "fail" for frame in traceback.extract_tb(error.__traceback__))


@pytest.mark.parametrize("kind", EXCEPTIONS)
async def test_a_state_that_holds_an_odd_error_gives_it_as_what_it_is(kind: str) -> None:
    error = EXCEPTIONS[kind]()
    state = MutableState(0)
    state.set_error(error)
    for _ in range(2):
        for read in (lambda: state.value, lambda: state.update(lambda value: value + 1)):
            with pytest.raises(type(error)) as caught:
                read()
            assert caught.value is not error
            assert state_of(caught.value) == state_of(error)
        with pytest.raises(type(error)):
            await state
    assert state.error is error
    state.set(1)
    assert await state == 1


# -- nothing of another caller -----------------------------------------------------------------------------------------
class Luggage:
    pass


def chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


@pytest.mark.parametrize("place", PLACES)
async def test_no_frame_of_a_caller_is_kept_by_an_error_that_is_cached(place: str, host: Host) -> None:
    async def call(is_handling: bool) -> weakref.ref[Luggage]:
        luggage = Luggage()
        try:
            if is_handling:
                raise LookupError("the caller's own")
            await getattr(raising, place)()
        except LookupError:
            with pytest.raises(ValueError, match="x"):
                await getattr(raising, place)()
        except ValueError as error:
            error.add_note("a caller's own")
        return weakref.ref(luggage)

    raising: Raising = host(Raising(lambda: ValueError("x")))
    for is_handling in (True, False, True):
        left = await asyncio.ensure_future(call(is_handling))
        await asyncio.sleep(0)
        gc.collect()
        assert left() is None
        error = await caught_from(raising, place)
        assert [type(one) for one in chain(error)] == [ValueError]
        assert not hasattr(error, "__notes__")
        assert getattr(raising, place)().error.__context__ is None


async def test_a_body_does_not_see_what_its_caller_handles(host: Host) -> None:
    class Curious(ComputeService):
        @compute_method
        async def handled(self) -> str:
            return repr(sys.exception())

        @compute_method
        async def again(self) -> None:
            raise

    curious: Curious = host(Curious())
    try:
        raise LookupError("the caller's own")
    except LookupError:
        assert await curious.handled() == "None"
        with pytest.raises(RuntimeError, match="No active exception"):
            await curious.again()


def test_nor_what_is_handled_around_the_event_loop() -> None:
    async def main() -> None:
        async with App("shop", [Shelf]).local() as host:
            for _ in range(2):
                with pytest.raises(ValueError, match="x") as caught:
                    await host.service(Shelf).count()
                assert caught.value.__context__ is not None, "that of whoever raises it here"
            assert host.service(Shelf).count().error.__context__ is None  # type: ignore[union-attr]

    class Shelf(ComputeService):
        @compute_method
        async def count(self) -> int:
            raise ValueError("x")

    try:
        raise LookupError("around it all")
    except LookupError:
        asyncio.run(main())


async def test_what_the_body_was_handling_stays_its_context(host: Host) -> None:
    class Handling(ComputeService):
        @compute_method
        async def get(self, is_cause: bool) -> int:
            try:
                return dict[int, int]()[1]
            except KeyError as error:
                if is_cause:
                    raise ValueError("x") from error
                raise ValueError("x")  # noqa: B904 - the context is what is tested

    handling: Handling = host(Handling())
    for _ in range(2):
        try:
            raise LookupError("the caller's own")
        except LookupError:
            for is_cause in (True, False):
                with pytest.raises(ValueError, match="x") as caught:
                    await handling.get(is_cause)
                assert isinstance(caught.value.__context__, KeyError)
                assert isinstance(caught.value.__cause__, KeyError) == is_cause
                assert caught.value.__suppress_context__ == is_cause


async def test_two_callers_at_once_do_not_disturb_each_other(host: Host) -> None:
    async def call(number: int) -> tuple[list[str], str]:
        try:
            raise LookupError(str(number))
        except LookupError:
            try:
                await raising.later()
            except ValueError as error:
                await asyncio.sleep(0)
                names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
                return names, str(error.__context__)
        raise AssertionError

    raising: Raising = host(Raising(lambda: ValueError("x")))
    answers = await asyncio.gather(*(call(number) for number in range(3)))
    assert [context for _, context in answers] == ["0", "1", "2"]
    assert {names.count("call") for names, _ in answers} == {1}


async def test_an_error_that_is_only_passed_on_is_the_same_one_everywhere(host: Host) -> None:
    class Noting(Raising):
        @compute_method
        async def noted(self) -> int:
            try:
                return await self.later()
            except ValueError as error:
                error.add_note("in noted")
                raise

    raising: Noting = host(Noting(lambda: ValueError("x")))
    for place in ("used", "later", "noted"):
        await caught_from(raising, place)
    assert raising.used().error is raising.later().error is raising.raised
    assert not hasattr(raising.raised, "__notes__")
    assert (await caught_from(raising, "noted")).__notes__ == ["in noted"]


class Finalized(Exception):
    def __del__(self) -> None:
        pass


async def test_an_error_that_cannot_be_copied_is_given_as_it_was(host: Host) -> None:
    raising: Raising = host(Raising(lambda: Finalized("x")))
    for _ in range(2):
        try:
            raise LookupError("the caller's own")
        except LookupError:
            error = await caught_from(raising, "later")
            assert error is raising.raised
        with pytest.raises(Finalized) as caught:
            await raising.later()
        assert caught.value.__context__ is None


# -- from outside ------------------------------------------------------------------------------------------------------
@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_midst_of_a_body_ends_the_program(number: signal.Signals) -> None:
    class Interrupted(ComputeService):
        @compute_method
        async def get(self) -> None:
            signal.raise_signal(number)

    async def main() -> None:
        async with App("shop", [Interrupted]).local() as host:
            await host.service(Interrupted).get()

    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    loop = asyncio.new_event_loop()  # not `asyncio.run`, for which Ctrl-C cancels the main task
    try:
        with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit):
            loop.run_until_complete(main())
    finally:
        signal.signal(signal.SIGTERM, before)
        for task in asyncio.all_tasks(loop):
            task.cancel()
            loop.run_until_complete(asyncio.wait([task]))
        loop.close()


async def test_an_observer_that_exits_stops_neither_the_others_nor_the_invalidation(host: Host, graph: Graph) -> None:
    class Counter(ComputeService):
        @compute_method
        async def get(self) -> int:
            return 1

    def exiting(_: object) -> None:
        raise SystemExit

    counter: Counter = host(Counter())
    await counter.get()
    told: list[object] = []
    node = counter.get()
    for observer in (exiting, told.append):
        node.on_invalidated(observer)
    node.invalidate()
    assert told == [node]


@pytest.mark.parametrize("kind", EXITS)
async def test_what_an_app_says_of_errors_and_sizes_may_exit_too(kind: str) -> None:
    def exits(_: object) -> Any:
        raise EXITS[kind]()

    class Things(ComputeService):
        @compute_method
        async def get(self, fails: bool) -> int:
            if fails:
                raise ValueError("x")
            return 3

    app = App("shop", [Things], is_transient=exits, size_of=exits)
    async with app.local(max_bytes=1_000_000) as host:
        things = host.service(Things)
        assert await things.get(False) == 3
        with pytest.raises(ValueError, match="x"):
            await things.get(True)


@pytest.mark.parametrize("kind", EXITS)
async def test_a_service_that_exits_when_it_is_made_is_named(kind: str) -> None:
    class Broken(ComputeService):
        def __init__(self) -> None:
            raise EXITS[kind]()

    with pytest.raises(BodyExited, match=rf"Broken.__init__ raised {kind}"):
        async with App("shop", [Broken]).local():
            pass


def test_what_is_raised_in_another_thread_is_never_a_signal() -> None:
    from fusion_cluster.failures.exits import is_from_outside

    found: list[bool] = []

    def work() -> None:
        try:
            signal.default_int_handler(2, None)
        except KeyboardInterrupt as error:
            found.append(is_from_outside(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]


async def test_frozen_errors_pass_through_the_blocks_of_the_library() -> None:
    with pytest.raises(Frozen):
        async with App("shop", []).local():
            raise Frozen(3)
    with pytest.raises(Odd):
        async with App("shop", []).local():
            raise Odd


class Classless(Exception):
    """Does not say what it is an instance of."""

    @property
    def __class__(self) -> Any:
        raise RuntimeError("no")

    @__class__.setter
    def __class__(self, cls: Any) -> None:
        raise RuntimeError("no")


class Shelves(ComputeService):
    @compute_method
    async def read(self) -> int:
        raise Classless

    @command
    async def change(self) -> int:
        raise Classless


@pytest.mark.parametrize("method", ["read", "change"])
async def test_an_error_that_does_not_tell_its_class_arrives(method: str) -> None:
    async with App("shelves", [Shelves]).local() as host:
        for _ in range(2):
            caught: BaseException | None = None
            try:
                await getattr(host.service(Shelves), method)()
            except Exception as error:
                caught = error
            assert type(caught) is Classless
