"""The port of services' facades for code without an event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from types import MethodType
from typing import Any

from fusion_cluster.blocking.changes import BlockingIterator, ComputedView, changes_of
from fusion_cluster.blocking.portal import Portal
from fusion_cluster.bodies.facade import FacadeClasses, Port, Unreachable
from fusion_cluster.errors import CommandOutcomeUnknown, DeadlineExceeded
from fusion_cluster.graph import Explanation, StoryEntry
from fusion_cluster.graph.why.cause import from_here


class CallerPort(Port):
    """The port of callers in threads: every call blocks and returns its value.

    Args:
        classes: makes the classes of facades.
        portal: the way to the event loop of the services.
        timeout_s: how long one call may take; None: no limit.
    """

    def __init__(self, classes: FacadeClasses, portal: Portal, timeout_s: float | None) -> None:
        super().__init__(classes)
        self.portal = portal
        self.timeout_s = timeout_s

    def run(self, make: Callable[[], Any]) -> Any:
        """Return the result of `make()`, called on the loop and awaited there if needed."""
        return self.portal.run(make, timeout_s=self.timeout_s)

    def method(self, method: Any) -> Any:
        """Return the blocking compute method."""
        return BlockingMethod(method, self)

    def command(self, command: Any) -> Any:
        """Return the blocking command."""
        return BlockingCommand(command, self)

    def state(self, state: Any) -> Any:
        """Return the blocking state."""
        return BlockingState(state, self)

    def database(self, database: Any) -> Any:
        """Return a stand-in whose error says where the database can be used."""
        return Unreachable("the database is for the event loop: use it in a method of a service, or by host.run(...)")

    def coroutine_method(self, on_facade: MethodType, on_service: MethodType) -> Any:
        """Return a function that runs the method on the event loop, and blocks."""
        return lambda *args, **kwargs: self.run(partial(on_service, *args, **kwargs))


class BlockingMethod:
    """A compute method whose calls block and return values.

    Attributes:
        function: the compute function behind it.
    """

    def __init__(self, method: Any, port: CallerPort) -> None:
        self.function = method.function
        self.__doc__ = method.__doc__
        self._method = method
        self._port = port

    def __repr__(self) -> str:
        return f"<blocking {self.function.name}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return the value; compute it if needed.

        Raises:
            DeadlineExceeded: the time is up.
            Exception: the exception that the body raised.
        """
        return self._port.run(partial(self._method, *args, **kwargs))

    def invalidate(self, *args: Any, **kwargs: Any) -> None:
        """Invalidate the result for these arguments; returns when the key's owner has applied it."""
        self._port.run(from_here(partial(self._method.invalidate, *args, **kwargs)))

    def peek(self, *args: Any, **kwargs: Any) -> ComputedView[Any] | None:
        """Return the computed for these arguments if it is consistent, else None; never computes."""
        (found,) = self._port.run(lambda: [self._method.peek(*args, **kwargs)])
        return ComputedView(found, self._port.portal) if found is not None and found.has_output else None

    def changes(self, *args: Any, **kwargs: Any) -> BlockingIterator[ComputedView[Any]]:
        """Iterate over the up-to-date computed now, and another after each change. Waits without a limit."""
        return changes_of(partial(self._method.changes, *args, **kwargs), self._port.portal)

    def why(self, *args: Any, **kwargs: Any) -> Explanation | None:
        """Explain why the result for these arguments is out of date, or was when it was invalidated last."""
        explanation: Explanation | None = self._port.run(partial(self._method.why, *args, **kwargs))
        return explanation

    def story(self, *args: Any, **kwargs: Any) -> list[StoryEntry]:
        """List what has happened to the result for these arguments, oldest first."""
        story: list[StoryEntry] = self._port.run(partial(self._method.story, *args, **kwargs))
        return story


class BlockingCommand:
    """A command whose calls block and return its result."""

    def __init__(self, command: Any, port: CallerPort) -> None:
        self.__doc__ = command.__doc__
        self._command = command
        self._port = port

    def __repr__(self) -> str:
        return f"<blocking {self._command.name}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command, and return its result.

        Raises:
            CommandOutcomeUnknown: the time is up; the command may or may not have run.
        """
        try:
            return self._port.run(partial(self._command, *args, **kwargs))
        except DeadlineExceeded as error:
            raise CommandOutcomeUnknown(
                f"the time of {self._command.name} is up: it may or may not have run"
            ) from error


class BlockingState:
    """A state whose value is read, and set, on its event loop."""

    def __init__(self, state: Any, port: CallerPort) -> None:
        self._state = state
        self._port = port

    def __repr__(self) -> str:
        return f"<blocking {self._state!r}>"

    @property
    def value(self) -> Any:
        """The present value.

        Raises:
            Exception: the error that the state holds instead of a value.
        """
        return self._port.run(lambda: [self._state.value])[0]

    @property
    def computed(self) -> ComputedView[Any]:
        """The computed that stands for the value now."""
        return ComputedView(self._port.run(lambda: [self._state.computed])[0], self._port.portal)

    def changes(self) -> BlockingIterator[ComputedView[Any]]:
        """Iterate over the present computed now, and another after each change. Waits without a limit."""
        changes: Callable[[], AsyncIterator[Any]] = self._state.changes
        return changes_of(changes, self._port.portal)

    def __getattr__(self, name: str) -> Any:
        (found,) = self._port.run(lambda: [getattr(self._state, name)])
        if not callable(found):
            return found
        return lambda *args, **kwargs: self._port.run(from_here(partial(found, *args, **kwargs)))
