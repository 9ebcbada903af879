"""Services, their methods, and what a service is attached to.

A `ComputeService` is a plain class until an instance is attached to a *hosting*: then each of its service methods is
bound, once; the descriptor in the class finds what it has been bound to.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from types import MethodType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Protocol

from fusion_cluster.catalogue.definition import require_body, require_class
from fusion_cluster.catalogue.options import DEFAULT_OPTIONS, ComputeOptions, require_defaults
from fusion_cluster.catalogue.signature import Signature
from fusion_cluster.errors import UsageError

if TYPE_CHECKING:
    from fusion_cluster.bodies.offload import Bodies
    from fusion_cluster.database import Database
    from fusion_cluster.graph.computed import Computed, ComputeFunction
    from fusion_cluster.graph.graph import Graph


class Hosting(Protocol):
    """What a service is attached to: it decides where values come from and where invalidations and commands go."""

    @property
    def graph(self) -> Graph:
        """The graph that holds the computeds of this process."""
        ...

    def produce(self, node: Computed[Any]) -> Coroutine[Any, Any, Any]:
        """Return the coroutine that gives `node` its value: its body, or a read from the owner.

        It runs in a task of its own with `node` as the current computation. It may set `node.version`, and register
        with `node.on_invalidated`.
        """
        ...

    def schedules_expiry(self, node: Computed[Any]) -> bool:
        """Tell whether this process invalidates `node` after its delays; a replica leaves that to the owner."""
        ...

    def invalidate(self, function: ComputeFunction, arguments: tuple[Any, ...]) -> Awaitable[None]:
        """Do what `method.invalidate(...)` means here; the awaitable ends when the owner has applied it.

        What can be done at once is done before this returns: nobody has to await the result.
        """
        ...

    def execute(self, invocation: Any) -> Coroutine[Any, Any, Any]:
        """Return the coroutine that runs a command where it belongs.

        Args:
            invocation: a `commands.Invocation`.
        """
        ...


class ServiceMethod(ABC):
    """A method of a service that is more than a method: the descriptor that decorators leave in the class.

    Attributes:
        takes_plain_def: the method may be a plain `def` as well as an `async def`.
        decorator: name of what makes it.

    Args:
        body: the method as written.

    Raises:
        UsageError: it is not an `async def` (nor what else may be), or takes `*args` or `**kwargs`.
    """

    takes_plain_def: ClassVar[bool] = False
    decorator: ClassVar[str]
    is_service_method: ClassVar[bool] = True

    def __init__(self, body: Callable[..., Any]) -> None:
        require_body(body, self.decorator, takes_plain_def=self.takes_plain_def)
        self.body = body
        self.name = body.__name__
        self.__doc__ = body.__doc__
        self._declared = Signature(body, body.__qualname__)
        self._signatures: dict[type, Signature] = {}
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

    def signature(self, owner: type[ComputeService]) -> Signature:
        """Return the method's signature as a member of the service class `owner`."""
        signature = self._signatures.get(owner)
        if signature is None:
            signature = self._signatures[owner] = self._declared.renamed(f"{owner.service_name}.{self.name}")
        return signature

    @abstractmethod
    def bind(self, instance: ComputeService, hosting: Hosting, service_name: str) -> Callable[..., Any]:
        """Return what `instance.<name>` is once `instance` is attached to `hosting`."""

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Give the descriptor on a class, the bound method on an attached instance.

        A method that a subclass has overridden is reached through `super()`: then this is its plain body. An instance
        that is not attached gets an object that says so when it is used.
        """
        if instance is None:
            return self
        if not isinstance(instance, ComputeService):
            raise UsageError(
                f"{self.body.__qualname__} is a {self.decorator}, and a {type(instance).__name__} is not a service: it "
                "must be a method of a class derived from ComputeService"
            )
        bound = instance._bound
        if bound is not None:
            return bound.get(self) or MethodType(self.body, instance)
        return UnhostedMethod(
            f"{type(instance).__name__} is not hosted: attach it to an app's host to call {self.name}()"
        )

    def __call__(self, instance: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call the method of an instance, as `Service.method(instance, ...)` does."""
        return self.__get__(instance)(*args, **kwargs)


class UnhostedMethod:
    """A service method of an instance that no host has attached: using it in any way says so."""

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


class ComputeService:
    """Base of all services: a class whose methods may be compute methods and commands.

    Attributes:
        database: the app's database; set by the host where the app has one.
        service_name: the service's name in keys and on the wire; the class's own name unless the class sets it.
        shard_group: services of one group put equal first arguments on the same shard; the service's name unless the
            class or one of its bases sets it.
        compute_defaults: options of the class's compute methods that say nothing themselves; a class adds to what its
            bases say. They win over the app's.
    """

    database: Database

    service_name: ClassVar[str] = "ComputeService"
    shard_group: ClassVar[str] = "ComputeService"
    compute_defaults: ClassVar[ComputeOptions] = DEFAULT_OPTIONS

    _chosen_shard_group: ClassVar[str | None] = None
    _hosting: Hosting | None = None
    _bodies: Bodies | None = None
    _bound: Mapping[ServiceMethod, Callable[..., Any]] | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        require_class(cls)
        if "service_name" not in cls.__dict__:
            cls.service_name = cls.__name__
        if "compute_defaults" in cls.__dict__:
            require_defaults(cls.compute_defaults, f"{cls.__name__}.compute_defaults")
        if "shard_group" in cls.__dict__:
            cls._chosen_shard_group = cls.shard_group
        else:
            cls.shard_group = cls._chosen_shard_group or cls.service_name


def is_attached(instance: ComputeService) -> bool:
    """Tell whether `instance` has been attached to a hosting."""
    return instance._hosting is not None


def service_methods(cls: type[ComputeService]) -> dict[str, ServiceMethod]:
    """Return the service methods of a class by name, inherited ones included."""
    members: dict[str, object] = {}
    for base in reversed(cls.__mro__):
        members.update(base.__dict__)
    return {name: member for name, member in members.items() if isinstance(member, ServiceMethod)}


def bodies_of(instance: ComputeService) -> Bodies:
    """Return what runs the bodies of `instance`, as given to `attach`; else what it has for itself alone."""
    if instance._bodies is None:
        from fusion_cluster.bodies.offload import Bodies  # which imports this module

        instance._bodies = Bodies()
    return instance._bodies


def attach(
    instance: ComputeService, hosting: Hosting, service_name: str | None = None, *, bodies: Bodies | None = None
) -> None:
    """Bind all service methods of `instance` to `hosting`.

    Args:
        instance: the service.
        hosting: where its values come from.
        service_name: its name in keys, if not its class's.
        bodies: default options and threads; a service that is given none has its own.

    Raises:
        UsageError: the instance is attached already.
    """
    if is_attached(instance):
        raise UsageError(f"{type(instance).__name__} is hosted already")
    name = service_name or type(instance).service_name
    instance._bodies = bodies
    methods = service_methods(type(instance))
    instance._bound = {descriptor: descriptor.bind(instance, hosting, name) for descriptor in methods.values()}
    from fusion_cluster.graph.core.hot_path import IS_NATIVE

    if not IS_NATIVE:  # in Python, nothing is quicker than to be found before the descriptor
        instance.__dict__.update({method: instance._bound[descriptor] for method, descriptor in methods.items()})
    instance._hosting = hosting
