"""What a graph asks of the host around it, and the simplest such host: everything is computed here."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from fusion_cluster.errors import UsageError
from fusion_cluster.graph.graph import Graph
from fusion_cluster.graph.why.cause import call_site

if TYPE_CHECKING:
    from fusion_cluster.graph.computed import Computed, ComputeFunction


class Hosting(Protocol):
    """What compute methods are attached to: it decides where values come from and where invalidations go."""

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


class Done:
    """Awaitable of what is done already."""

    __slots__ = ()

    def __await__(self) -> Any:
        return iter(())


DONE = Done()
"""The one instance needed."""


def run_body(node: Computed[Any]) -> Coroutine[Any, Any, Any]:
    """Return the coroutine of the node's body, to be run here."""
    function: ComputeFunction = node.function
    if function.is_positional:  # as `compute` does; each miss comes by here
        return function.body(*node.arguments)
    return function.compute(node.arguments)


class GraphHosting:
    """A hosting whose computeds are all computed in its own graph. It knows no commands.

    Args:
        graph: the graph; a new one when None.
    """

    def __init__(self, graph: Graph | None = None) -> None:
        self._graph = graph or Graph()

    @property
    def graph(self) -> Graph:
        """The graph that holds the computeds."""
        return self._graph

    def produce(self, node: Computed[Any]) -> Coroutine[Any, Any, Any]:
        """Return the coroutine of the node's body."""
        return run_body(node)

    def schedules_expiry(self, node: Computed[Any]) -> bool:
        """Tell that delays are kept here: there is no other owner."""
        return True

    def invalidate(self, function: ComputeFunction, arguments: tuple[Any, ...]) -> Awaitable[None]:
        """Invalidate at once."""
        function.invalidate(arguments, call_site())
        return DONE

    def execute(self, invocation: object) -> Coroutine[Any, Any, Any]:
        """Refuse.

        Raises:
            UsageError: always.
        """
        raise UsageError("this hosting runs no commands")
