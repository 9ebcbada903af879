"""One compute method of one hosted service: where its computeds are looked up."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Final, Generic, TypeVar

from fusion_cluster.catalogue.method import Method
from fusion_cluster.failures.failure import Failure, retry_delay_s
from fusion_cluster.graph.computing.freezing import freeze_result
from fusion_cluster.graph.computing.surroundings import Producer, Surroundings
from fusion_cluster.graph.core.hot_path import CONSISTENT, Node, Table
from fusion_cluster.graph.core.state import has_output
from fusion_cluster.graph.why.cause import REPLACED, UNKNOWN, Cause
from fusion_cluster.wire.codec import EncodedArguments

N = TypeVar("N", bound=Node[Any])

MANY_VARIANTS: Final = 64
"""From how many variants on a function looks for empty ones: then, and each time that their number has doubled."""


def _nobody() -> str:
    return "null"


def _nothing() -> None:
    pass


class Function(Generic[N]):
    """The computeds of one compute method, by arguments. `N` is their type (`ComputeFunction` names it).

    Attributes:
        method: what its app knows of it.
        name: "Carts.total".
        service_name: "Carts".
        method_name: "total".
        signature: what it takes and gives.
        options: when results are kept, tried again, invalidated.
        body: the method as written, bound to its instance.
        hosting: where values come from.
        graph: the graph that its computeds are in.
        admit: what is cached for the value of a computation; None: that value.
        has_lifetime: a value is kept for some time at least, or at most.
        codec: what makes arguments canonical, and bytes.
        is_positional: all arguments can be given by position, and the body cannot change any of them.
        is_plain: a value has no lifetime, is not weighed and not guarded.
        source: where the body runs, if this has a `consolidation_delay` (see `consolidation`).
        table: every live node of this function, and no other.
        outdated: how many outdated computations run for a key of the table. Keys without one are not there.
        principal: whom its results are for (`varying.principal_key`); None: they are shared.
        variants: principal -> the function for that principal; None: its results do not depend on who asks, as far as
            is known. Else there is nothing in the table.
        shared: of what this is a variant; None: it is none.
        is_forgotten: it is not among the variants any more: another one has taken, or will take, its place.
        find_reader: gives the principal that reads in this context (`varying.reader_key`).
        on_varying: called when it begins to vary.
        sweep_size: at how many variants the empty ones are looked for.
    """

    __slots__ = (
        "admit",
        "body",
        "codec",
        "find_reader",
        "graph",
        "has_lifetime",
        "hosting",
        "is_forgotten",
        "is_plain",
        "is_positional",
        "method",
        "method_name",
        "name",
        "on_varying",
        "options",
        "outdated",
        "principal",
        "service_name",
        "shared",
        "signature",
        "source",
        "sweep_size",
        "table",
        "variants",
    )

    def __init__(
        self, method: Method, *, body: Callable[..., Coroutine[Any, Any, Any]], hosting: Producer, graph: Surroundings
    ) -> None:
        self.method = method
        self.name = method.name
        self.service_name = method.service_name
        self.method_name = method.method_name
        self.signature = signature = method.signature
        self.options = options = method.options
        self.body = body
        self.codec = method.arguments
        count = len(signature.parameter_names)
        self.is_positional = signature.positional_count == count and not self.codec.are_changeable
        self.hosting = hosting
        self.graph = graph
        self.has_lifetime = options.min_cache_duration > 0 or options.auto_invalidation_delay < math.inf
        self.is_plain = not self.has_lifetime and graph.max_bytes == math.inf and graph.guard is None
        self.admit: Callable[[N, Any], Any] | None = freeze_result if options.freeze else None
        if graph.guard is not None:
            self.admit = graph.guard.admit
        self.table = Table(
            graph.registry,
            self,
            graph.node_type,
            is_keyed_by_argument=(
                count == signature.positional_count == 1
                and self.codec.are_told_apart_by_python
                and not self.codec.may_hold_nan
            ),
            is_delayed=options.invalidation_delay > 0 or options.consolidation_delay is not None,
        )
        self.source: Function[N] | None = None
        self.outdated: dict[Any, int] = {}
        self.principal: str | None = None
        self.variants: dict[str, Function[N]] | None = None
        self.sweep_size = MANY_VARIANTS
        self.shared: Function[N] | None = None
        self.is_forgotten = False
        self.find_reader: Callable[[], str] = _nobody
        self.on_varying: Callable[[], object] = _nothing

    def __repr__(self) -> str:
        return f"<ComputeFunction {self.name}, {len(self.table)} nodes>"

    def nodes(self) -> list[N]:
        """Return all live computeds."""
        return self.table.nodes()

    def all_nodes(self) -> list[N]:
        """Return all live computeds, those of the source and of the variants included."""
        nodes = self.nodes() if self.source is None else self.nodes() + self.source.nodes()
        return nodes if self.variants is None else [*nodes, *(n for v in self.variants.values() for n in v.all_nodes())]

    def all_functions(self) -> list[Function[N]]:
        """Return this function, its source and its variants."""
        own: list[Function[N]] = [self] if self.source is None else [self, self.source]
        return own if self.variants is None else [*own, *(f for v in self.variants.values() for f in v.all_functions())]

    def variant(self, principal: str) -> Function[N]:
        """Return the function for one principal; this one, if its results are shared or for that principal."""
        if self.variants is None:
            return self
        variant = self.variants.get(principal)
        if variant is None:
            if len(self.variants) >= self.sweep_size:
                self._forget_empty_variants()
            variant = self.variants[principal] = self._copy(principal)
        return variant

    def of_reader(self) -> Function[N]:
        """Return what has the computeds of whoever asks: their variant, or this if they have none."""
        return self if self.variants is None else self.variants.get(self.find_reader(), self)

    def lookup(self, arguments: tuple[Any, ...]) -> N:
        """Return the live computed for canonical arguments, a new one if there is none; counts a hit.

        Raises:
            UsageError: the graph is closed.
        """
        if self.variants is not None:
            return self.variant(self.find_reader()).lookup(arguments)
        if self.is_forgotten and self.shared is not None and self.principal is not None:
            return self.shared.variant(self.principal).lookup(arguments)
        registry = self.table.registry
        registry.check_fence()
        node: N = self.table.lookup(self.table_key(arguments))
        if registry.is_in_doubt and self.graph.doubt.settle(node):
            node = self.table.lookup(self.table_key(arguments))
        return node

    def peek(self, arguments: tuple[Any, ...]) -> N | None:
        """Return the consistent computed for canonical arguments, if there is one; computes nothing."""
        if self.variants is not None:
            variant = self.of_reader()
            return None if variant is self else variant.peek(arguments)
        registry = self.table.registry
        registry.check_fence()
        node = self._live(arguments)
        if node is not None and registry.is_in_doubt:
            self.graph.doubt.settle(node)
        return node if node is not None and node._state == CONSISTENT and has_output(node) else None

    def find(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> N:
        """Return the live computed for the call `method(*args, **kwargs)`, a new one if there is none.

        Raises:
            InvalidArgument: as `Signature.bind`.
        """
        values = self.signature.values(args, kwargs)
        if not self.codec.are_told_apart_by_python:
            self.table.registry.check_fence()
            node: N | None = self.table.hit(self.codec.probe(values))
            if node is not None and not self.table.registry.is_in_doubt:
                return node
        return self.lookup(self.codec.canonical(values))

    def invalidate(self, arguments: tuple[Any, ...], cause: Cause = UNKNOWN) -> None:
        """Invalidate the live computed for canonical arguments, if there is one, computing or consistent.

        A replica of what has a delay is left alone: its owner decides when, and whether, it is out of date.
        """
        if self.variants is not None:
            for variant in list(self.variants.values()):
                variant.invalidate(arguments, cause)
            return
        node = self._live(arguments)
        if node is None:
            if self.source is not None:
                self.source.invalidate(arguments, cause)
        elif not self.table.is_delayed or self.hosting.schedules_expiry(node):
            self.graph.invalidate(node, cause)

    def compute(self, arguments: tuple[Any, ...]) -> Coroutine[Any, Any, Any]:
        """Return the coroutine of the body for canonical arguments."""
        if self.is_positional:
            return self.body(*arguments)
        own = self.codec.copy(arguments)  # the body may change what it is given, and the key stays
        coroutine: Coroutine[Any, Any, Any] = self.signature.call(self.body, own)
        return coroutine

    def retry_delay_s(self, error: Exception) -> float:
        """Return the seconds for which `error` stands before it is computed anew."""
        return retry_delay_s(
            error,
            transient_error_delay=self.options.transient_error_delay,
            error_delay=self.options.error_delay,
            classifier=self.graph.is_transient,
        )

    def assign_value(self, arguments: tuple[Any, ...], value: object, cause: Cause = REPLACED) -> N:
        """Put a consistent computed with this value in the place of the present one; return it."""
        node: N = self.graph.node_type(self.table, self.table_key(arguments))
        node._value = value
        self.graph.replace(self._live(arguments), node, cause)
        return node

    def assign_error(self, arguments: tuple[Any, ...], error: Exception, cause: Cause = REPLACED) -> N:
        """Put a consistent computed with this error in the place of the present one; return it."""
        node: N = self.graph.node_type(self.table, self.table_key(arguments))
        node._failure = Failure(error)
        self.graph.replace(self._live(arguments), node, cause)
        return node

    # -- for the graph -------------------------------------------------------------------------------------------------
    def on_outdated(self, node: Node[Any]) -> None:
        """Note that a node is out of date while its computation goes on."""
        key = node.table_key
        self.outdated[key] = self.outdated.get(key, 0) + 1

    def on_outdated_ended(self, node: Node[Any]) -> None:
        """Note that the computation of an outdated node has ended."""
        key = node.table_key
        self.outdated[key] -= 1
        if not self.outdated[key]:
            del self.outdated[key]

    def _copy(self, principal: str) -> Function[N]:
        source = self.source
        body = self.body if source is None else source.body
        copy = Function[N](self.method, body=body, hosting=self.hosting, graph=self.graph)
        copy.principal = principal
        copy.shared = self
        if source is not None:
            copy.source = Function[N](source.method, body=source.body, hosting=source.hosting, graph=self.graph)
            copy.source.principal = principal
            copy.body = partial(self.body.func, copy.source)  # type: ignore[attr-defined]
        return copy

    def _forget_empty_variants(self) -> None:
        assert self.variants is not None
        for principal, variant in list(self.variants.items()):
            if not any(function.outdated or len(function.table) for function in variant.all_functions()):
                del self.variants[principal]
                self.table.hits += sum(function.table.hits for function in variant.all_functions())
                variant.is_forgotten = True  # somebody may hold an old computed of it, and ask for a newer one
        self.sweep_size = max(MANY_VARIANTS, 2 * len(self.variants))

    # -- inside --------------------------------------------------------------------------------------------------------
    def _live(self, arguments: tuple[Any, ...]) -> N | None:
        node: N | None = self.table.get(self.table_key(arguments))
        return node

    def table_key(self, arguments: tuple[Any, ...]) -> Any:
        """Return what the computed for canonical arguments is looked up by in the table."""
        if self.table.is_keyed_by_argument:
            return arguments[0]
        if self.codec.are_told_apart_by_python or isinstance(arguments, EncodedArguments):
            return arguments
        return self.codec.canonical(arguments)
