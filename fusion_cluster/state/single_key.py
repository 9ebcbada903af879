"""The compute function behind a state: it has one key, and a graph of its own."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fusion_cluster.graph import ComputeFunction, Graph, GraphHosting, Signature


async def _read(self: object) -> Any:
    """Stand for the body in the signature: no arguments."""


def single_key_function(
    service_name: str,
    name: str,
    body: Callable[[], Coroutine[Any, Any, Any]],
    *,
    is_transient: Callable[[Exception], bool] | None = None,
) -> ComputeFunction:
    """Return a compute function without parameters, alone in a graph that holds the one node it can have.

    Args:
        service_name: class of the state; with `name` it is the function's name.
        name: the state's own.
        body: computes the value.
        is_transient: tells which errors may go away by themselves; that of all graphs when None.
    """
    graph = Graph(max_nodes=1) if is_transient is None else Graph(max_nodes=1, is_transient=is_transient)
    function = ComputeFunction(
        service_name=service_name,
        method_name=name,
        signature=Signature(_read, f"{service_name}.{name}"),
        body=body,
        hosting=GraphHosting(graph),
        graph=graph,
    )
    graph.add(function)
    return function
