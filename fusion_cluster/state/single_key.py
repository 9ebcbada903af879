"""The compute function behind a state: it has one key, and a graph of its own."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

from fusion_cluster.catalogue.method import Method
from fusion_cluster.catalogue.signature import Signature
from fusion_cluster.errors import UsageError
from fusion_cluster.failures.failure import TransientClassifier, is_transient
from fusion_cluster.graph import ComputeFunction, Graph, GraphHosting
from fusion_cluster.graph.computing.varying import NOBODY, principal_key
from fusion_cluster.runtime import SYSTEM, Runtime
from fusion_cluster.runtime.baggage import current_principal

_HISTORY: Final = 64
"""How many events a state remembers: there may be many states."""


async def _read(self: object) -> Any:
    """Stand for the body in the signature: no arguments."""


def single_key_graph(is_transient: TransientClassifier = is_transient, *, runtime: Runtime = SYSTEM) -> Graph:
    """Return a graph that holds the one node that a state can have.

    Args:
        is_transient: tells which errors may go away by themselves.
        runtime: the clock, the random numbers and the tasks of the graph.
    """
    return Graph(max_nodes=1, history=_HISTORY, is_transient=is_transient, name="the state", runtime=runtime)


def single_key_function(
    service_name: str,
    name: str,
    body: Callable[[], Coroutine[Any, Any, Any]],
    graph: Graph,
) -> ComputeFunction:
    """Return a compute function without parameters, alone in its graph.

    Args:
        service_name: class of the state; with `name` it is the function's name.
        name: the state's own.
        body: computes the value.
        graph: of its own (`single_key_graph`).
    """
    method = Method(service_name, name, "compute", Signature(_read, f"{service_name}.{name}"))
    function = ComputeFunction(method, body=body, hosting=GraphHosting(graph), graph=graph)
    try:
        function.principal = principal_key(current_principal.get())  # a state is for one viewer: whoever has made it
    except UsageError:
        function.principal = NOBODY
    graph.add(function)
    return function
