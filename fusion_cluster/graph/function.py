"""One compute method of one hosted service: where its computeds are looked up."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fusion_cluster.graph.arguments import TypedArguments
from fusion_cluster.graph.computed import Computed
from fusion_cluster.graph.core import OUTDATED, Node
from fusion_cluster.graph.failure import Failure, retry_delay_s
from fusion_cluster.graph.options import DEFAULT_OPTIONS, ComputeOptions
from fusion_cluster.graph.signature import Signature

if TYPE_CHECKING:
    from fusion_cluster.graph.graph import Graph
    from fusion_cluster.graph.service import Hosting


class ComputeFunction:
    """The computeds of one compute method, by arguments.

    Attributes:
        name: "Carts.total".
        service_name: "Carts".
        method_name: "total".
        signature: what it takes and gives.
        options: what its decorator was told.
        body: the method as written, bound to its instance.
        hosting: where values come from.
        graph: the graph that its computeds are in.
        is_keyed_by_argument: the registry's keys are the one argument itself, not a tuple with it.
        nodes: the registry: every live node of this function, and no other.
        outdated: how many outdated computations run for a key (of the registry). Keys without one are not there.
    """

    __slots__ = (
        "body",
        "graph",
        "hosting",
        "is_keyed_by_argument",
        "method_name",
        "name",
        "nodes",
        "options",
        "outdated",
        "service_name",
        "signature",
    )

    def __init__(
        self,
        *,
        service_name: str,
        method_name: str,
        signature: Signature,
        body: Callable[..., Coroutine[Any, Any, Any]],
        hosting: Hosting,
        graph: Graph,
        options: ComputeOptions = DEFAULT_OPTIONS,
    ) -> None:
        self.name = f"{service_name}.{method_name}"
        self.service_name = service_name
        self.method_name = method_name
        self.signature = signature
        self.options = options
        self.body = body
        self.hosting = hosting
        self.graph = graph
        self.is_keyed_by_argument = (
            len(signature.parameter_names) == signature.positional_count == 1 and not signature.is_ambiguous
        )
        self.nodes: dict[Any, Computed[Any]] = {}
        self.outdated: dict[Any, int] = {}

    def __repr__(self) -> str:
        return f"<ComputeFunction {self.name}, {len(self.nodes)} nodes>"

    def lookup(self, arguments: tuple[Any, ...]) -> Computed[Any]:
        """Return the live computed for canonical arguments, a new one if there is none; counts a hit."""
        node = self.nodes.get(arguments[0] if self.is_keyed_by_argument else arguments)
        if node is None:
            return self._create(arguments)
        node.hits += 1
        return node

    def peek(self, arguments: tuple[Any, ...]) -> Computed[Any] | None:
        """Return the consistent computed for canonical arguments, if there is one; computes nothing."""
        node = self._live(arguments)
        return node if node is not None and node.is_consistent else None

    def find(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Computed[Any]:
        """Return the live computed for the call `method(*args, **kwargs)`, a new one if there is none.

        Raises:
            InvalidArgument: as `Signature.bind`.
        """
        return self.lookup(self.signature.bind(args, kwargs))

    def invalidate(self, arguments: tuple[Any, ...]) -> None:
        """Invalidate the live computed for canonical arguments, if there is one, computing or consistent."""
        node = self._live(arguments)
        if node is not None:
            node.invalidate()

    def compute(self, arguments: tuple[Any, ...]) -> Coroutine[Any, Any, Any]:
        """Return the coroutine of the body for canonical arguments."""
        coroutine: Coroutine[Any, Any, Any] = self.signature.call(self.body, arguments)
        return coroutine

    def retry_delay_s(self, error: Exception) -> float:
        """Return the seconds for which `error` stands before it is computed anew."""
        return retry_delay_s(
            error,
            transient_error_delay=self.options.transient_error_delay,
            error_delay=self.options.error_delay,
            classifier=self.graph.is_transient,
        )

    def assign_value(self, arguments: tuple[Any, ...], value: object) -> Computed[Any]:
        """Put a consistent computed with this value in the place of the present one; return it."""
        node: Computed[Any] = Computed(self, arguments)
        node._value = value
        self.graph.replace(self._live(arguments), node)
        return node

    def assign_error(self, arguments: tuple[Any, ...], error: Exception) -> Computed[Any]:
        """Put a consistent computed with this error in the place of the present one; return it."""
        node: Computed[Any] = Computed(self, arguments)
        node._failure = Failure(error)
        self.graph.replace(self._live(arguments), node)
        return node

    # -- the registry ------------------------------------------------------------------------------------------------
    def drop(self, node: Node[Any]) -> None:
        """Take a node that is no longer live out of the registry (called by `core.mark` alone)."""
        key = self.key_of(node)
        if self.nodes.get(key) is node:
            del self.nodes[key]
        if node._state == OUTDATED:
            self.outdated[key] = self.outdated.get(key, 0) + 1
        self.graph.forget(node)

    def on_outdated_ended(self, node: Node[Any]) -> None:
        """Note that the computation of an outdated node has ended."""
        key = self.key_of(node)
        self.outdated[key] -= 1
        if not self.outdated[key]:
            del self.outdated[key]

    def key_of(self, node: Node[Any]) -> Any:
        """Return the key under which a node of this function stands in the registry."""
        return node.arguments[0] if self.is_keyed_by_argument else node.arguments

    def _create(self, arguments: tuple[Any, ...]) -> Computed[Any]:
        if self.signature.is_ambiguous and type(arguments) is not TypedArguments:
            arguments = TypedArguments(arguments)
        node: Computed[Any] = Computed(self, arguments)
        return self.enter(arguments, node)

    def _live(self, arguments: tuple[Any, ...]) -> Computed[Any] | None:
        return self.nodes.get(arguments[0] if self.is_keyed_by_argument else arguments)

    def enter(self, arguments: tuple[Any, ...], node: Computed[Any]) -> Computed[Any]:
        """Enter a new node; return it, or the one that has come first while room was made."""
        self.graph.make_room()
        key = arguments[0] if self.is_keyed_by_argument else arguments
        present = self.nodes.setdefault(key, node)  # an observer of an evicted node may have called this very key
        if present is node:
            self.graph.retention.add(node)
        return present
