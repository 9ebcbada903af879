"""What `self` is in a body that is not a coroutine on the graph's loop: the ports of its facade, one for each place.

| the body is | and runs | `self.items("c1")` gives |
|---|---|---|
| a plain `def` | on the loop | the value, if it is there; else `UsageError` |
| a plain `def` | in a thread | the value, after waiting for it |
| an `async def` | in a thread, on a loop of its own | what to await for the value |
| either | as a task, maybe in another process | `UsageError` |
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
from abc import abstractmethod
from collections.abc import Callable, Generator
from functools import partial
from types import MethodType
from typing import Any, NoReturn

from fusion_cluster.bodies.crossing import Crossing
from fusion_cluster.bodies.facade import FacadeClasses, Port, Unreachable
from fusion_cluster.bodies.threads import Threads
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.errors import UsageError
from fusion_cluster.graph.why.cause import from_here


class LoopPort(Port):
    """Of a plain `def` on the graph's loop: it reads what is there.

    Args:
        classes: makes the classes of facades.
        name: of the method that runs, for messages.
    """

    def __init__(self, classes: FacadeClasses, name: str) -> None:
        super().__init__(classes)
        self._name = name

    def method(self, method: Any) -> Any:
        """Return what reads a consistent computed in place."""
        return _ReadNow(method, self._name)

    def command(self, command: Any) -> Any:
        """Return the command, which refuses computations."""
        return command

    def state(self, state: Any) -> Any:
        """Return the state: this is its thread."""
        return state

    def database(self, database: Any) -> Any:
        """Return what says that a plain `def` cannot use it."""
        return Unreachable(f"{self._name} is a plain def, which cannot use the database: make it an async def")

    def coroutine_method(self, on_facade: MethodType, on_service: MethodType) -> Any:
        """Return what says that a plain `def` cannot await it."""
        return Unreachable(
            f"{self._name} is a plain def and cannot wait for {on_facade.__name__}(): make it an async def, or say "
            'offload="thread"'
        )


class _ReadNow:
    """A compute method whose calls give values that are there already."""

    def __init__(self, method: Any, reader: str) -> None:
        self._method = method
        self._reader = reader

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        function = self._method.function
        arguments = function.signature.bind(args, kwargs)
        node = function.peek(arguments)
        if node is None or not node.has_output:  # one whose value was paged out has to be computed again
            key = f"{function.name}({', '.join(map(repr, arguments))})"
            error = UsageError(
                f"{self._reader} is a plain def, which cannot wait, and {key} is not computed yet: make it an async "
                'def, or say offload="thread"'
            )
            error.__dict__["is_memoized"] = False  # the next try may find it
            raise error
        return function.lookup(arguments).value

    def __getattr__(self, name: str) -> Any:
        return getattr(self._method, name)


class CrossingPort(Port):
    """Of a body in a thread: what it asks for is read on the graph's loop.

    Args:
        classes: makes the classes of facades.
        crossing: the way to the loop.
        name: of the method that runs, for messages.
    """

    def __init__(self, classes: FacadeClasses, crossing: Crossing, name: str) -> None:
        super().__init__(classes)
        self._crossing = crossing
        self._name = name

    @abstractmethod
    def cross(self, make: Callable[[], Any]) -> Any:
        """Return what `make()`, called and if need be awaited on the loop, gives; or what to await for it."""

    @abstractmethod
    def now(self, make: Callable[[], Any]) -> Any:
        """Return what `make()`, called on the loop, gives without waiting for anything else."""

    def method(self, method: Any) -> Any:
        """Return what reads across."""
        return _CrossedMethod(method, self)

    def command(self, command: Any) -> Any:
        """Return what refuses."""
        return Unreachable(f"{command.name} is a command: a compute method cannot call it")

    def state(self, state: Any) -> Any:
        """Return what reads the state across."""
        return _CrossedState(state, self)


class BlockingPort(CrossingPort):
    """Of a plain `def` in a thread: calls block, and give values.

    Args:
        classes: makes the classes of facades.
        crossing: the way to the loop.
        name: of the method that runs, for messages.
        threads: what the body's thread is one of.
    """

    def __init__(self, classes: FacadeClasses, crossing: Crossing, name: str, threads: Threads) -> None:
        super().__init__(classes, crossing, name)
        self._threads = threads

    def cross(self, make: Callable[[], Any]) -> Any:
        """Return what `make()` gives; the thread gives up its place meanwhile.

        Raises:
            asyncio.CancelledError: nobody waits for this body any more.
        """
        answer = self._crossing.ask(make)
        try:
            if not answer.done():
                with self._threads.waiting():
                    return answer.result().give()
            return answer.result().give()
        except concurrent.futures.CancelledError:
            raise asyncio.CancelledError(f"the computation of {self._name} was cancelled") from None
        finally:
            del answer  # an error's traceback holds this frame, the frame must not hold the error

    def now(self, make: Callable[[], Any]) -> Any:
        """See `cross`."""
        return self.cross(make)

    def database(self, database: Any) -> Any:
        """Return what says that there is no event loop for it."""
        return Unreachable(f"{self._name} is a plain def, which cannot use the database: make it an async def")

    def coroutine_method(self, on_facade: MethodType, on_service: MethodType) -> Any:
        """Return a function that runs it on the graph's loop, and blocks."""
        return lambda *args, **kwargs: self.cross(partial(on_service, *args, **kwargs))


class AwaitingPort(CrossingPort):
    """Of an `async def` in a thread, with an event loop of its own: calls give something to await."""

    def __init__(self, classes: FacadeClasses, crossing: Crossing, name: str) -> None:
        super().__init__(classes, crossing, name)
        self._databases: dict[Any, None] = {}

    def cross(self, make: Callable[[], Any]) -> Any:
        """Return an awaitable; `make()` is called when that is awaited."""
        return _Crossed(self._crossing, make)

    def now(self, make: Callable[[], Any]) -> Any:
        """Return what `make()` gives; blocks for as long as the graph's loop is busy."""
        answer = self._crossing.ask(make)
        try:
            return answer.result().give()
        except concurrent.futures.CancelledError:
            raise asyncio.CancelledError(f"the computation of {self._name} was cancelled") from None
        finally:
            del answer

    def database(self, database: Any) -> Any:
        """Return the database, which gets connections for this loop; `dispose` closes them."""
        self._databases[database] = None
        return database

    def coroutine_method(self, on_facade: MethodType, on_service: MethodType) -> Any:
        """Return it as it is: it runs on this thread's loop like the body that awaits it."""
        return on_facade

    async def dispose(self) -> None:
        """Close what was opened for this loop."""
        for database in self._databases:
            await database.dispose()


class _Crossed:
    """Awaitable of what is read on the graph's loop."""

    __slots__ = ("_crossing", "_make")

    def __init__(self, crossing: Crossing, make: Callable[[], Any]) -> None:
        self._crossing = crossing
        self._make = make

    def __await__(self) -> Generator[Any, Any, Any]:
        outcome = yield from asyncio.wrap_future(self._crossing.ask(self._make)).__await__()
        return outcome.give()


class _CrossedMethod:
    """A compute method whose calls are read across."""

    def __init__(self, method: Any, port: CrossingPort) -> None:
        self.function = method.function
        self._method = method
        self._port = port

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._port.cross(partial(self._method, *args, **kwargs))

    def invalidate(self, *args: Any, **kwargs: Any) -> Any:
        """Invalidate the result for these arguments; blocks, or gives what to await, like a call."""
        return self._port.cross(from_here(partial(self._method.invalidate, *args, **kwargs)))

    def peek(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: a computed belongs to the graph's thread."""
        raise UsageError(
            f"{self.function.name}.peek(), .changes(), .why() and .story() are for the graph's event loop, "
            "not for a thread"
        )

    changes = why = story = peek


class _CrossedState:
    """A state that is read across."""

    def __init__(self, state: Any, port: CrossingPort) -> None:
        self._state = state
        self._port = port

    def __await__(self) -> Any:
        return self._port.cross(lambda: self._state).__await__()

    @property
    def value(self) -> Any:
        return self._port.now(lambda: self._state.value)

    @property
    def error(self) -> Any:
        return self._port.now(lambda: self._state.error)

    def __getattr__(self, name: str) -> NoReturn:
        raise UsageError(f"{self._state!r}: a body in a thread can read value and error, not {name}")


class StrandedPort(Port):
    """Of a body that runs as a task: `self` was made for it, and nothing leads into the graph.

    Args:
        classes: makes the classes of facades.
        name: of the method that runs, for messages.
    """

    def __init__(self, classes: FacadeClasses, name: str) -> None:
        super().__init__(classes)
        self._name = name

    def method(self, method: Any) -> Any:
        """Return what says why not."""
        return self._unreachable("compute methods")

    def command(self, command: Any) -> Any:
        """Return what says why not."""
        return self._unreachable("commands")

    def state(self, state: Any) -> Any:
        """Return what says why not: this is not the state that others set."""
        return self._unreachable("states")

    def database(self, database: Any) -> Any:
        """Return what says why not."""
        return self._unreachable("the database")

    def coroutine_method(self, on_facade: MethodType, on_service: MethodType) -> Any:
        """Return it as it is: it is code like the body."""
        return on_facade

    def missing(self, service: ComputeService, name: str) -> Any:
        """Return what says why not, for attributes that a host sets.

        Raises:
            AttributeError: it is something else.
        """
        if any(name in inspect.get_annotations(base) for base in type(service).__mro__):
            return self._unreachable("the database" if name == "database" else f"self.{name}")
        return super().missing(service, name)

    def _unreachable(self, what: str) -> Unreachable:
        return Unreachable(
            f"{self._name} runs as a task (offload=RayTask), where self has no host, so {what} cannot be reached: get "
            "the values in an async compute method and pass them as arguments, or connect by app.cluster()"
        )
