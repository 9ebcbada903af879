"""The simplest hosting: everything is computed here."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine
from typing import TYPE_CHECKING, Any

from fusion_cluster.errors import UsageError
from fusion_cluster.graph.graph import Graph
from fusion_cluster.graph.why.cause import call_site

if TYPE_CHECKING:
    from fusion_cluster.graph.computed import Computed, ComputeFunction


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
