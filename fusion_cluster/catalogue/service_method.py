"""`ServiceMethod`: the descriptor that decorators leave in a service class.

It knows the method as it is written. What an app makes of it is a `Method`; what an instance has under its name, once
it is attached to a host, is what `bind` returns.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import MethodType
from typing import Any, ClassVar, Final, NoReturn

from fusion_cluster.catalogue.definition import require_body
from fusion_cluster.catalogue.method import AsyncBody, Method, MethodKind, ShardBy
from fusion_cluster.catalogue.options import DEFAULT_OPTIONS, ComputeOptions
from fusion_cluster.catalogue.signature import Signature
from fusion_cluster.errors import UsageError

_NO_SERVICE: Final = object()


class ServiceMethod(ABC):
    """A compute method, command or event handler as it is declared in a class.

    Attributes:
        kind: what callers may do with it.
        decorator: name of the decorator that makes it.
        takes_plain_def: the method may be a plain `def` as well as an `async def`.
        signature_class: makes its signature.
        body: the method as written.
        name: its name in the class.
        options: what the decorator of a compute method was told.
        barrier: what the decorator of a command was told.
        shard_by: what decides the shard instead of the first argument.

    Args:
        body: the method as written.

    Raises:
        UsageError: it is not an `async def` (or a plain `def` where that is allowed), or takes `*args` or `**kwargs`.
    """

    kind: ClassVar[MethodKind]
    decorator: ClassVar[str]
    takes_plain_def: ClassVar[bool] = False
    signature_class: ClassVar[type[Signature]] = Signature
    is_service_method: ClassVar[bool] = True

    options: ComputeOptions = DEFAULT_OPTIONS
    barrier: bool = True
    shard_by: ShardBy | None = None

    def __init__(self, body: Callable[..., Any]) -> None:
        require_body(body, self.decorator, takes_plain_def=self.takes_plain_def)
        self.body = body
        self.name = body.__name__
        self.__doc__ = body.__doc__
        self._declared = self.signature_class(body, body.__qualname__)
        self._is_abstract = False

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @property
    def __isabstractmethod__(self) -> bool:
        """Whether the body is declared here and left to subclasses."""
        return self._is_abstract or getattr(self.body, "__isabstractmethod__", False) is True

    @__isabstractmethod__.setter
    def __isabstractmethod__(self, value: bool) -> None:
        self._is_abstract = value

    def require_shard_by(self, shard_by: ShardBy | None) -> ShardBy | None:
        """Return `shard_by`, checked.

        Raises:
            UsageError: it is neither the name of a parameter nor a function that takes the arguments of the method.
        """
        name, names = self.body.__qualname__, self._declared.parameter_names
        if callable(shard_by):
            if inspect.iscoroutinefunction(shard_by):
                raise UsageError(f"{name}: shard_by must be a plain function, not an async def", field="shard_by")
            if not _takes(shard_by, names):
                takes = ", ".join(names) or "no arguments"
                raise UsageError(f"{name}: shard_by must take what the method takes: {takes}", field="shard_by")
        elif shard_by is not None and shard_by not in names:
            raise UsageError(f"{name} has no parameter {shard_by!r} to shard by", field="shard_by")
        return shard_by

    def event_classes(self, _signature: Signature) -> tuple[type[Any], ...]:
        """Return the classes of the events that it handles: none, unless it is an event handler."""
        return ()

    def completed(self, body: AsyncBody) -> AsyncBody:
        """Return the body with what belongs to it wherever it runs, beneath all middleware."""
        return body

    @abstractmethod
    def bind(self, method: Method, instance: Any, hosting: Any, body: AsyncBody) -> Callable[..., Any]:
        """Return what `instance.<name>` is once `instance` is attached.

        Args:
            method: what is known of it.
            instance: the service.
            hosting: what the service is attached to. Each kind of method says what it asks of it.
            body: runs the method of the instance, where it is to run, with middleware around it.
        """

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Give the descriptor on a class, the bound method on an attached instance.

        A method that a subclass has overridden is reached through `super()`: then this is its plain body. An instance
        that is not attached gets an object that says so when it is used.
        """
        if instance is None:
            return self
        bound: Any = getattr(instance, "_bound", _NO_SERVICE)
        if bound is _NO_SERVICE:
            raise UsageError(
                f"{self.body.__qualname__} is a {self.decorator}, and a {type(instance).__name__} is not a service: it "
                "must be a method of a class derived from ComputeService"
            )
        if bound is not None:
            return bound.get(self) or MethodType(self.body, instance)
        return UnhostedMethod(
            f"{type(instance).__name__} is not hosted: attach it to an app's host to call {self.name}()"
        )

    def __call__(self, instance: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call the method of an instance, as `Service.method(instance, ...)` does."""
        return self.__get__(instance)(*args, **kwargs)


def _takes(function: Callable[..., Any], names: tuple[str, ...]) -> bool:
    """Tell whether a function can be called with so many arguments; True if it does not say what it takes."""
    try:
        inspect.signature(function).bind(*names)
    except TypeError:
        return False
    except ValueError:  # a function of C
        return True
    return True


class UnhostedMethod:
    """Stands for something that only a host can give an instance: using it in any way says so."""

    def __init__(self, message: str) -> None:
        self._message = message

    def __call__(self, *args: object, **kwargs: object) -> NoReturn:
        """Raise `UsageError`."""
        raise UsageError(self._message)

    invalidate = peek = changes = why = story = __call__

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise UsageError(self._message)
