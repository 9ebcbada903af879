"""The interface of middleware, and the call that it gets."""

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

    A call is equal only to itself. Middleware must pass it on unchanged: its arguments are the key of a computation,
    and a retry of a command is recognised by them.

    Attributes:
        kind: "command", "compute", or "event" for an event handler, which is a command without a caller.
        service: the service of the method, in the process that runs the body. What a middleware reads of it in a
            computation becomes a dependency of the result, as in the body itself.
        service_name: "Products".
        method_name: "set_price".
        parameter_names: the names of the parameters, in order.
        arguments: the canonical arguments, one for each parameter, in the same order, defaults filled in.
        command_id: for a command, the id of its run, which is the same for each retry. A nested command has the id of
            the command that it is a part of. All attempts of an event handler at one event have the same id. None for
            computations.
        is_nested: whether it is a command that another command, or an event handler, has called.
        baggage: values that came along with the call, for example the trace (see `carrying`). A result must not depend
            on them: a computation has the baggage of its first reader.
        is_transient: the app's classifier: returns for an error whether trying again may help.
        deadline_s: for a command, until when its caller waits, on the monotonic clock; then the command is cancelled,
            unless its commit has begun. Infinite without a deadline, and for computations, whose readers change.
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
        """Return the argument for the parameter of that name.

        Raises:
            KeyError: the method has no such parameter.
        """
        try:
            return self.arguments[self.parameter_names.index(name)]
        except ValueError:
            raise KeyError(f"{self.name} has no parameter {name!r}") from None

    def __str__(self) -> str:
        """Return the call as it is written in code, with long arguments cut, for people."""
        return f"{self.name}({abridged_arguments(self.arguments)})"


Next = Callable[[Call], Awaitable[Any]]
"""The rest of the way: await it with the call to get the result of the body, or of a middleware further in."""


class Middleware(Protocol):
    """Wraps the bodies of an app's methods: any object that can be called like this, or an `async def`.

    >>> class Logged:
    ...     async def __call__(self, call: Call, next: Next) -> Any:
    ...         print(call)
    ...         return await next(call)
    """

    async def __call__(self, call: Call, next: Next, /) -> Any:
        """Let a call through, with `return await next(call)`, or refuse it.

        A middleware may act before and after, await `next` several times or not at all, and return or raise something
        else. What it returns or raises is the outcome of the call. The outcome of a computation is cached.

        Args:
            call: the call.
            next: the rest of the way.
        """
        ...


@runtime_checkable
class CarryingMiddleware(Protocol):
    """Middleware that adds something to the calls that leave the process."""

    def carried(self) -> Mapping[str, str]:
        """Return what calls made in this context take along."""
        ...
