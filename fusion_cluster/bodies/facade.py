"""A service for code that must not touch the graph itself, as it runs in another thread or in another process.

A *facade* stands for a service. It has the service's class and attributes (it shares the very `__dict__`), so plain
methods and assignments work on it as on the service. But whatever leads into the graph is handed to its *port*, which
says what it is over there: service methods, other services, states, the database, plain `async def` methods.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from types import MethodType
from typing import Any, NoReturn, TypeVar, cast

from fusion_cluster.catalogue.members import service_methods
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.catalogue.service_method import UnhostedMethod
from fusion_cluster.errors import UsageError
from fusion_cluster.graph.computed import Computed

T = TypeVar("T")


class Port(ABC):
    """What a facade's ways into the graph are; the facades reached from one facade have the same port.

    Args:
        classes: makes the classes of facades.
    """

    def __init__(self, classes: FacadeClasses) -> None:
        self._classes = classes
        self._facades: dict[int, tuple[ComputeService, ComputeService]] = {}

    def facade(self, service: ComputeService) -> ComputeService:
        """Return the facade of a service; the same one each time."""
        found = self._facades.get(id(service))
        if found is None:
            found = self._facades[id(service)] = service, self._classes.facade(service, self)
        return found[1]

    @abstractmethod
    def method(self, method: Any) -> Any:
        """Return what stands for a bound compute method."""

    @abstractmethod
    def command(self, command: Any) -> Any:
        """Return what stands for a bound command."""

    @abstractmethod
    def state(self, state: Any) -> Any:
        """Return what stands for a state: a value of the graph that is no service's method."""

    @abstractmethod
    def database(self, database: Any) -> Any:
        """Return what stands for the app's database."""

    @abstractmethod
    def coroutine_method(self, on_facade: MethodType, on_service: MethodType) -> Any:
        """Return what stands for a plain `async def` of a service, given it bound to either."""

    def missing(self, service: ComputeService, name: str) -> Any:
        """Return what stands for an attribute that the service does not have.

        Raises:
            AttributeError: there is none.
        """
        return getattr(service, name)


class Facade:
    """Mixed into a service class: attributes come through the port (see the module)."""

    __slots__ = ()

    facade_port: Port
    facade_service: ComputeService

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Do nothing: what a service does with its subclasses is not meant for facades."""

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name.startswith(("__", "facade_")):
            return value
        if isinstance(value, Facade):
            return value
        port: Port = object.__getattribute__(self, "facade_port")
        if isinstance(value, ComputeService):
            return port.facade(value)
        if name == "database":
            return port.database(value)
        if isinstance(value, UnhostedMethod) or name in type(self).facade_methods:
            is_command = not isinstance(value, UnhostedMethod) and value.function is value
            return port.command(value) if is_command else port.method(value)
        if inspect.ismethod(value) and value.__self__ is self:
            if not inspect.iscoroutinefunction(value.__func__):
                return value
            service = object.__getattribute__(self, "facade_service")
            return port.coroutine_method(value, MethodType(value.__func__, service))
        return port.state(value) if is_state(value) else value

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, Facade):
            value = object.__getattribute__(value, "facade_service")
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        port: Port = object.__getattribute__(self, "facade_port")
        return port.missing(object.__getattribute__(self, "facade_service"), name)

    facade_methods: frozenset[str]


class FacadeClasses:
    """Makes facades, and keeps the class that it made for each class of services."""

    def __init__(self) -> None:
        self._classes: dict[type[ComputeService], Any] = {}

    def facade(self, service: ComputeService, port: Port) -> ComputeService:
        """Return a facade of `service` whose ways into the graph lead through `port`."""
        kind = type(service)
        facade_class = self._classes.get(kind)
        if facade_class is None:
            metaclass: Any = type(kind)
            members = {
                "__slots__": ("facade_port", "facade_service"),
                "__module__": kind.__module__,
                "__qualname__": kind.__qualname__,
                "__doc__": kind.__doc__,
                "facade_methods": frozenset(service_methods(kind)),
            }
            facade_class = self._classes[kind] = metaclass(kind.__name__, (Facade, kind), members)
        facade: Any = object.__new__(facade_class)
        facade.__dict__ = service.__dict__
        object.__setattr__(facade, "facade_port", port)
        object.__setattr__(facade, "facade_service", service)
        return cast("ComputeService", facade)


def is_state(value: object) -> bool:
    """Tell whether `value` is a state: awaitable, and standing for a computed, like `MutableState`."""
    return hasattr(type(value), "computed") and isinstance(value, Awaitable)


class Unreachable:
    """Stands for something that cannot be had where the code runs: using it in any way says so.

    Args:
        message: what is said.
    """

    __slots__ = ("_message",)

    def __init__(self, message: str) -> None:
        self._message = message

    def __repr__(self) -> str:
        return f"<{self._message}>"

    def __getattr__(self, name: str) -> NoReturn:
        raise UsageError(self._message)

    def __call__(self, *args: object, **kwargs: object) -> NoReturn:
        """Raise `UsageError`."""
        raise UsageError(self._message)

    def __await__(self) -> NoReturn:
        raise UsageError(self._message)


def value_of(call: Awaitable[T]) -> T:
    """Tell type checkers that a call has given its value already.

    Where calls of service methods give values (in a plain `def` compute method, and through `blocking`), the method's
    type still says `Computed[T]`. `value_of(self.items("c1"))` is that value, and is known to be one. Of a computed,
    which is what the call gives everywhere else, it is the value too if there is one.

    Raises:
        UsageError: there is no value: the call has to be awaited.
    """
    given: Any = call
    if inspect.iscoroutine(given):
        given.close()
        raise UsageError("value_of() was given a coroutine: await it instead")
    return cast("T", given.value if isinstance(given, Computed) else given)
