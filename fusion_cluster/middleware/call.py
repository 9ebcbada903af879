"""What middleware is, and what it is told of each call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.failures.failure import TransientClassifier, is_transient
from fusion_cluster.graph.why.abridged import abridged_arguments
from fusion_cluster.runtime.baggage import NO_BAGGAGE
from fusion_cluster.runtime.deadline import NO_DEADLINE

CallKind = Literal["command", "compute", "event"]


def _no_baggage() -> Mapping[str, str]:
    return NO_BAGGAGE


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One run of the body of a command, a compute method or an event handler.

    Two calls are equal if they are the same one. A call is passed on as it came: its arguments are the key of a
    computation, and what a retry of a command is recognised by.

    Attributes:
        kind: "command" or "compute"; "event" of an event handler, which is a command that nobody has called.
        service: the service whose method it is, in the process that runs the body. What a middleware reads of it in a
            computation becomes a dependency of the result, as in the body itself.
        service_name: "Products".
        method_name: "set_price".
        parameter_names: the names of the parameters, in order.
        arguments: the canonical arguments: as many, in the same order, defaults filled in.
        command_id: of a command, the id of its run, which is the same for each retry; a nested command has that of the
            command that it is a part of, and each attempt of an event handler at one event the same. None for
            computations.
        is_nested: it is a command that another command, or an event handler, has called.
        baggage: what has come along with the call, the trace for example (see `carrying`). A result must not depend on
            it: a computation has that of whoever asked first.
        is_transient: the app's classifier: tells of an error whether trying again may end better.
        deadline_s: of a command, until when somebody waits for it, on the monotonic clock; then it is cancelled, unless
            its commit has begun. Infinite where nobody says so, and for computations: who waits for those changes.
    """

    kind: CallKind
    service: ComputeService
    service_name: str
    method_name: str
    parameter_names: tuple[str, ...] = ()
    arguments: tuple[Any, ...] = ()
    command_id: str | None = None
    is_nested: bool = False
    baggage: Mapping[str, str] = field(default_factory=_no_baggage)
    is_transient: TransientClassifier = field(default=is_transient, repr=False)
    deadline_s: float = NO_DEADLINE

    @property
    def name(self) -> str:
        """The full name of the method: "Products.set_price"."""
        return f"{self.service_name}.{self.method_name}"

    def argument(self, name: str) -> Any:
        """The argument for the parameter of that name.

        Raises:
            KeyError: the method has no such parameter.
        """
        try:
            return self.arguments[self.parameter_names.index(name)]
        except ValueError:
            raise KeyError(f"{self.name} has no parameter {name!r}") from None

    def __str__(self) -> str:
        """The call as it would be written, with long arguments cut: for people."""
        return f"{self.name}({abridged_arguments(self.arguments)})"


Next = Callable[[Call], Awaitable[Any]]
"""The rest of the way: await it with the call for what the body, or a middleware further in, returns."""


class Middleware(Protocol):
    """Something around the bodies of an app's methods: any object that can be called like this, or an `async def`.

    >>> class Logged:
    ...     async def __call__(self, call: Call, next: Next) -> Any:
    ...         print(call)
    ...         return await next(call)
    """

    async def __call__(self, call: Call, next: Next, /) -> Any:
        """Let a call through, with `return await next(call)`, or not.

        It may do something before and after, await `next` more than once or not at all, return something else, raise
        something else. What it returns, or raises, is the outcome: of a computation that is what is cached.

        Args:
            call: what is called.
            next: the rest of the way.
        """
        ...


@runtime_checkable
class CarryingMiddleware(Protocol):
    """Middleware that adds something to the calls that leave the process."""

    def carried(self) -> Mapping[str, str]:
        """What calls made in this context take along."""
        ...
