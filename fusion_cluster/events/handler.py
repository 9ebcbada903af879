"""`@event_handler`: methods that are called with the events of a type."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Coroutine
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, TypeVar, overload

from fusion_cluster.catalogue.method import AsyncBody, Method, MethodKind
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.catalogue.signature import Signature
from fusion_cluster.commands.command import BoundCommand, Command, CommandHosting
from fusion_cluster.commands.emitted_event import event_type, is_event_class
from fusion_cluster.errors import UsageError
from fusion_cluster.wire.codec import value_codec
from fusion_cluster.wire.description import type_name

if TYPE_CHECKING:
    from typing import Self

S = TypeVar("S", bound=ComputeService)
E = TypeVar("E")


class BoundEventHandler(BoundCommand[[Any], None]):
    """An event handler of a service that lives in a host."""

    def __repr__(self) -> str:
        return f"<event handler {self.name}>"

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse a call by hand.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            f"{self.name} is an event handler: operation.emit(...) has it called. What others call as well belongs in "
            "a method of its own"
        )

    def _own(self, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return arguments  # the event was decoded for this attempt

    async def body(self, arguments: tuple[Any, ...]) -> None:
        """Run the method as written; its result is not used."""
        await super().body(arguments)

    @cached_property
    def types(self) -> tuple[str, ...]:
        """The names of the classes of its events."""
        return tuple(event_type(one) for one in self.method.event_classes)


class EventHandler(Command[[E], None], Generic[E]):
    """The descriptor that `@event_handler` leaves in a service class.

    Raises:
        UsageError: the method does not have exactly one parameter with a type hint.
    """

    kind: ClassVar[MethodKind] = "event"
    decorator: ClassVar[str] = "event_handler"

    def __init__(self, body: Callable[..., Coroutine[Any, Any, None]], *, barrier: bool = True) -> None:
        super().__init__(body, barrier=barrier)
        names = self._declared.parameter_names
        if len(names) != 1 or self._declared.positional_count != 1:
            raise UsageError(f"{body.__qualname__} handles events: it takes self and one event")
        annotation = inspect.signature(body).parameters[names[0]].annotation
        if annotation is inspect.Parameter.empty:
            raise UsageError(
                f"{body.__qualname__} handles events: the type hint of {names[0]!r} must say of which class",
                field=names[0],
            )

    def event_classes(self, signature: Signature) -> tuple[type[Any], ...]:
        """Return the classes of the events that it handles, by its signature in a service class.

        Raises:
            UsageError: its type hint names something that is not a class of events, or cannot be resolved.
        """
        parameter = signature.parameters[0]
        classes = _members(parameter.type)
        for one in classes:
            if not is_event_class(one):
                raise UsageError(
                    f"{signature.name} handles events, which are instances of dataclasses, msgspec Structs or pydantic "
                    f"models: {type_name(one)} is not such a class",
                    field=parameter.name,
                )
            value_codec(one)  # raises if its fields are wrong
        return classes

    def bind(self, method: Method, instance: Any, hosting: CommandHosting, body: AsyncBody) -> Any:
        """Return what `instance.<name>` is once `instance` is attached to `hosting`."""
        return BoundEventHandler(method, self, hosting, body)

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: type | None = None) -> Self: ...
        @overload
        def __get__(self, instance: object, owner: type | None = None) -> BoundEventHandler: ...
        def __get__(self, instance: object | None, owner: type | None = None) -> Any: ...


def _members(hint: Any) -> tuple[Any, ...]:
    if typing.get_origin(hint) is typing.Annotated:
        return _members(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return tuple(member for part in typing.get_args(hint) for member in _members(part))
    return (hint,)


@overload
def event_handler(body: Callable[[S, E], Coroutine[Any, Any, None]], /) -> EventHandler[E]: ...
@overload
def event_handler(
    *, barrier: bool = True
) -> Callable[[Callable[[S, E], Coroutine[Any, Any, None]]], EventHandler[E]]: ...
def event_handler(body: Callable[..., Coroutine[Any, Any, None]] | None = None, /, *, barrier: bool = True) -> Any:
    """Make an `async def` method of a service handle the events of the class that its one parameter's hint names.

    It is called with each such event that an operation has committed, `operation.emit(event)`: at least once, and among
    events of one key in the order of the commits. It is a command with one id for all calls for the same event: the
    changes in its operation are made once, however often it is called.

    A class may have several handlers, in one service or several, and a handler several classes: `event: A | B`.

    Args:
        body: the method.
        barrier: False lets the next event of the key go ahead as soon as the owners of the keys invalidated by the
            handler have applied that, before all replicas have.

    Raises:
        UsageError: the method is not an `async def` with one parameter and a type hint. The hint itself is checked when
            an app is made of the service.
    """
    if body is not None:
        return EventHandler(body)
    return lambda body: EventHandler(body, barrier=barrier)
