"""`@compute_method`: a method whose results are cached and tracked."""

from __future__ import annotations

import functools
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from typing import Any, ClassVar, Concatenate, Generic, Literal, ParamSpec, Protocol, TypeVar, cast, overload

from fusion_cluster.catalogue.method import AsyncBody, Method, MethodKind
from fusion_cluster.catalogue.options import DEFAULT_OPTIONS, ComputeOptions, Offload
from fusion_cluster.catalogue.service_method import ServiceMethod
from fusion_cluster.catalogue.signature import REQUIRED
from fusion_cluster.errors import UsageError
from fusion_cluster.graph.computed import Computed, ComputeFunction
from fusion_cluster.graph.computing.consolidation import give_source
from fusion_cluster.graph.computing.varying import begin_to_vary, reader_key
from fusion_cluster.graph.core.hot_path import Call, ServiceMethodHit, adopt_descriptor
from fusion_cluster.graph.hosting import GraphHosting, Hosting
from fusion_cluster.graph.why.explanation import Explanation, StoryEntry
from fusion_cluster.graph.why.recall import explain, tell

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")
T_co = TypeVar("T_co", covariant=True)


class BoundComputeMethod(Protocol[P, T_co]):
    """A compute method of an instance: call it for the computed, await that for the value."""

    @property
    def function(self) -> ComputeFunction:
        """The compute function behind it: the registry, the signature, the options."""
        ...

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Computed[T_co]:
        """Return the computed for these arguments; nothing runs before it is awaited.

        Raises:
            InvalidArgument: an argument is missing, unknown, unhashable or cannot be encoded; `field` names it.
        """
        ...

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> Awaitable[None]:
        """Invalidate the result for these arguments. Await the result to know that the key's owner has done it."""
        ...

    def peek(self, *args: P.args, **kwargs: P.kwargs) -> Computed[T_co] | None:
        """Return the computed for these arguments if there is a consistent one; never computes."""
        ...

    def changes(self, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[Computed[T_co]]:
        """Give the up-to-date computed now, and another after each change (see `Computed.changes`)."""
        ...

    def why(self, *args: P.args, **kwargs: P.kwargs) -> Explanation | None:
        """Tell why the result for these arguments is out of date, or was when it was invalidated last.

        Returns:
            None if this process knows nothing of it: it was never asked for here, or so long ago that it is forgotten.
        """
        ...

    def story(self, *args: P.args, **kwargs: P.kwargs) -> list[StoryEntry]:
        """Tell what has happened here to the result for these arguments, oldest first, as far back as is known."""
        ...


class ComputeMethod(ServiceMethod, ServiceMethodHit, Generic[P, T]):
    """The descriptor that `@compute_method` leaves in the class.

    Attributes:
        options: what the decorator was told. What holds for a hosted method is `service.method.function.options`.
    """

    kind: ClassVar[MethodKind] = "compute"
    takes_plain_def: ClassVar[bool] = True
    decorator: ClassVar[str] = "compute_method"

    def __init__(
        self, body: Callable[..., Coroutine[Any, Any, T] | T], options: ComputeOptions = DEFAULT_OPTIONS
    ) -> None:
        super().__init__(body)
        self.options = options
        self.require_shard_by(options.shard_by)

    def __reduce__(self) -> tuple[Any, ...]:
        # With its class, which goes by value to a worker process that cannot import it.
        return type(self), (self.body, self.options), {"name": self.name}

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> ComputeMethod[P, T]: ...

    @overload
    def __get__(self, instance: object, owner: type | None = None) -> BoundComputeMethod[P, T]: ...

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """See `ServiceMethod.__get__`."""
        return super().__get__(instance, owner)

    def bind(self, method: Method, instance: Any, hosting: Hosting, body: AsyncBody) -> BoundComputeMethod[P, T]:
        """Enter the compute function in the graph; return the bound method, a plain function with attributes."""
        function = ComputeFunction(method, body=body, hosting=hosting, graph=hosting.graph)
        if method.options.consolidation_delay is not None:
            give_source(function, GraphHosting(hosting.graph))
        function.find_reader = reader_key
        if function.source is not None:
            function.source.find_reader = reader_key
            function.source.on_varying = functools.partial(begin_to_vary, function)
        hosting.graph.add(function)
        return bind(function, self, instance, hosting)


def bind(
    function: ComputeFunction, descriptor: ServiceMethod, instance: object, hosting: Hosting
) -> BoundComputeMethod[Any, Any]:
    """Return `function` as users call it: a method of `instance`, which is attached to `hosting`."""
    signature = function.signature
    call = cast(
        "Any",
        Call(
            *(function.table, function.find, descriptor, instance),
            *(signature.names_for_callers, signature.defaults, REQUIRED, signature.positional_count),
            *(signature.canonical_types, function.codec.are_told_apart_by_python),
        ),
    )
    functools.update_wrapper(call, descriptor.body, updated=())
    arguments_of = function.signature.bind

    def invalidate(*args: Any, **kwargs: Any) -> Awaitable[None]:
        return hosting.invalidate(function, arguments_of(args, kwargs))

    def peek(*args: Any, **kwargs: Any) -> Computed[Any] | None:
        return function.peek(arguments_of(args, kwargs))

    def changes(*args: Any, **kwargs: Any) -> AsyncIterator[Computed[Any]]:
        return function.find(args, kwargs).changes()

    def why(*args: Any, **kwargs: Any) -> Explanation | None:
        return explain(function.of_reader(), function.table_key(arguments_of(args, kwargs)))

    def story(*args: Any, **kwargs: Any) -> list[StoryEntry]:
        return tell(function.of_reader(), function.table_key(arguments_of(args, kwargs)))

    function.on_varying = lambda: setattr(call, "is_raw", False)
    call.function = function
    call.invalidate = invalidate
    call.peek = peek
    call.changes = changes
    call.why = why
    call.story = story
    return cast("BoundComputeMethod[Any, Any]", call)


adopt_descriptor(ComputeMethod)


class ComputeMethodDecorator(Protocol):
    """What `compute_method(...)` with options is: it makes a method a compute method."""

    @overload
    def __call__(self, body: Callable[Concatenate[S, P], Coroutine[Any, Any, T]], /) -> ComputeMethod[P, T]: ...
    @overload
    def __call__(self, body: Callable[Concatenate[S, P], T], /) -> ComputeMethod[P, T]: ...


class FreezingDecorator(Protocol):
    """What `compute_method(freeze=True, ...)` is: callers are given the frozen form of what the method says."""

    @overload
    def __call__(
        self, body: Callable[Concatenate[S, P], Coroutine[Any, Any, list[V]]], /
    ) -> ComputeMethod[P, tuple[V, ...]]: ...
    @overload
    def __call__(
        self, body: Callable[Concatenate[S, P], Coroutine[Any, Any, dict[K, V]]], /
    ) -> ComputeMethod[P, Mapping[K, V]]: ...
    @overload
    def __call__(
        self, body: Callable[Concatenate[S, P], Coroutine[Any, Any, set[V]]], /
    ) -> ComputeMethod[P, frozenset[V]]: ...
    @overload
    def __call__(self, body: Callable[Concatenate[S, P], Coroutine[Any, Any, T]], /) -> ComputeMethod[P, T]: ...
    @overload
    def __call__(self, body: Callable[Concatenate[S, P], list[V]], /) -> ComputeMethod[P, tuple[V, ...]]: ...
    @overload
    def __call__(self, body: Callable[Concatenate[S, P], dict[K, V]], /) -> ComputeMethod[P, Mapping[K, V]]: ...
    @overload
    def __call__(self, body: Callable[Concatenate[S, P], set[V]], /) -> ComputeMethod[P, frozenset[V]]: ...
    @overload
    def __call__(self, body: Callable[Concatenate[S, P], T], /) -> ComputeMethod[P, T]: ...


@overload
def compute_method(body: Callable[Concatenate[S, P], Coroutine[Any, Any, T]], /) -> ComputeMethod[P, T]: ...


@overload
def compute_method(body: Callable[Concatenate[S, P], T], /) -> ComputeMethod[P, T]: ...


@overload
def compute_method(
    *,
    freeze: Literal[True],
    min_cache_duration: float = 0.0,
    auto_invalidation_delay: float = math.inf,
    invalidation_delay: float = 0.0,
    transient_error_delay: float = 1.0,
    error_delay: float = 30.0,
    consolidation_delay: float | None = None,
    shard_by: str | Callable[..., Any] | None = None,
    offload: Offload | None = None,
    varies: bool = True,
) -> FreezingDecorator: ...


@overload
def compute_method(
    *,
    min_cache_duration: float = 0.0,
    auto_invalidation_delay: float = math.inf,
    invalidation_delay: float = 0.0,
    transient_error_delay: float = 1.0,
    error_delay: float = 30.0,
    consolidation_delay: float | None = None,
    shard_by: str | Callable[..., Any] | None = None,
    offload: Offload | None = None,
    varies: bool = True,
    freeze: Literal[False] = False,
) -> ComputeMethodDecorator: ...


def compute_method(body: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a method of a service a compute method: each result is cached and knows what it was computed from.

    Use it plain, or with options (see `ComputeOptions`). What is not said here is what the service says
    (`compute_defaults`), then what the app says (`App(defaults=…)`).

    An `async def` reads other compute methods by `await`. A plain `def` cannot wait: on the event loop its calls give
    the values that are there already, and `UsageError` where there is none; with `offload="thread"` they wait.

    A result is one object that all its readers are given: `(await carts.items("c1")).append(item)` changes it for all
    of them. Make a copy, or say `freeze=True`, and readers get tuples, `MappingProxyType`s and frozensets. Hosts that
    are strict, as they are under pytest, find such changes (see `App.local`).

    >>> class Carts(ComputeService):
    ...     @compute_method(min_cache_duration=60)
    ...     async def total(self, cart_id: str) -> Decimal: ...
    ...
    ...     @compute_method(offload="thread")
    ...     def invoice(self, cart_id: str) -> bytes: ...

    Raises:
        UsageError: an option is unknown or out of its range; the method is a generator, or takes `*args` or `**kwargs`.
    """
    if body is not None:
        return ComputeMethod(body)
    try:
        chosen = ComputeOptions(**options)
    except TypeError as error:
        unknown = next((name for name in options if name not in ComputeOptions.__dataclass_fields__), "")
        raise UsageError(f"compute_method has no option {unknown!r}", field=unknown) from error
    return lambda body: ComputeMethod(body, chosen)
