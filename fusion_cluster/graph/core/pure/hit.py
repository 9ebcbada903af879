"""The hit: from `service.method(arguments)` to the node."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import is_not
from typing import Any, Final

from fusion_cluster.graph.core.pure.registry import Node, Table

_MISSING: Final = object()

Find = Callable[[Sequence[Any], Mapping[str, Any]], Node[Any]]
"""The slow way: binds arguments to parameters, then looks up, or makes a new node."""


class ServiceMethodHit:
    """Base of the descriptor that a service method is: what the C path needs to bypass `__get__`. Here nothing."""

    __slots__ = ()


def Call(  # noqa: N802 - a class in C
    table: Table,
    find: Find,
    descriptor: object,
    instance: object,
    names: tuple[str | None, ...],
    defaults: tuple[Any, ...],
    required: object,
    positional: int,
    types: tuple[type | None, ...],
    is_raw: bool,
) -> Callable[..., Any]:
    """Return a bound compute method: arguments in, node out.

    The raw arguments are looked up as they are. That is right where canonical arguments of equal classes that Python
    finds equal are one key; all else, defaults, keywords, wrong calls, is not found and takes the way through `find`.

    Args:
        table: where to look.
        find: the slow way.
        descriptor: the method in the class.
        instance: the service that the method is bound to.
        names: of the parameters in order, None for those that callers cannot name.
        defaults: as many; `required` for those that have none.
        required: the mark in `defaults`.
        positional: how many arguments may be given by position.
        types: as many as names: the type whose values are canonical as they are; None if there is not such a type.
        is_raw: raw arguments may be looked up as they are; if not, each call takes the way through `find`.
    """
    if not is_raw:
        return lambda *args, **named: find(args, named)
    nodes = table.nodes_by_key
    registry = table.registry

    if table.is_keyed_by_argument:

        def call_with_one(argument: Any = _MISSING, /, *rest: Any, **named: Any) -> Any:
            if registry.has_fence:
                registry.check_fence()
            if rest or named or registry.is_in_doubt:
                return find(rest if argument is _MISSING else (argument, *rest), named)
            try:
                node = nodes[argument]
            except (KeyError, TypeError):
                return find(() if argument is _MISSING else (argument,), named)
            if type(node.table_key) is not type(argument):
                return find((argument,), named)
            table.hits += 1
            node._was_hit = True
            return node

        return call_with_one

    def call(*args: Any, **named: Any) -> Any:
        if registry.has_fence:
            registry.check_fence()
        if named or registry.is_in_doubt:
            return find(args, named)
        try:
            node = nodes[args]
        except (KeyError, TypeError):
            return find(args, named)
        if any(map(is_not, map(type, args), map(type, node.table_key))):
            return find(args, named)
        table.hits += 1
        node._was_hit = True
        return node

    return call


def adopt_node(node_type: type[Any]) -> None:
    """Let `await` of a `node_type` take the short way. This twin does not have one."""


def adopt_descriptor(descriptor_type: type[Any]) -> None:
    """Let calls of methods by a `descriptor_type` take the short way. This twin does not have one."""
