"""The hit: from `service.method(arguments)` to the node."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fusion_cluster.graph.pure.registry import Table

if TYPE_CHECKING:
    from fusion_cluster.graph.pure.node import Node

Find = Callable[[Sequence[Any], Mapping[str, Any]], "Node[Any]"]
"""The slow way: binds arguments to parameters, then looks up, or makes a new node."""


class ServiceMethodHit:
    """Base of the descriptor that a service method is: what the C path needs to bypass `__get__`. Here nothing."""

    __slots__ = ()


class Call:
    """A bound compute method: arguments in, node out.

    The raw arguments are looked up as they are. That is right because equal arguments are one key (`arguments`); all
    else, defaults, keywords, wrong calls, is not found and takes the way through `find`.

    Args:
        table: where to look.
        find: the slow way.
        descriptor: the method in the class.
        instance: the service that the method is bound to.
        names: of the parameters in order, None for those that callers cannot name.
        defaults: as many; `required` for those that have none.
        required: the mark in `defaults`.
        positional: how many arguments may be given by position.
        types: as many as names: the type whose values are canonical as they are; None if there is no such type.
    """

    def __init__(
        self,
        table: Table,
        find: Find,
        descriptor: object,
        instance: object,
        names: tuple[str | None, ...],
        defaults: tuple[Any, ...],
        required: object,
        positional: int,
        types: tuple[type | None, ...],
    ) -> None:
        self.table = table
        self.find = find
        self._descriptor = descriptor
        self._instance = instance

    def __call__(self, *args: Any, **named: Any) -> Any:
        """Return the node for these arguments."""
        table = self.table
        if table.registry.fence_s != math.inf:
            table.registry.check_fence()
        if not named:
            try:
                if not table.is_keyed_by_argument:
                    node = table.hit(args)
                else:
                    node = table.hit(args[0]) if len(args) == 1 else None
            except TypeError:
                node = None
            if node is not None:
                return node
        return self.find(args, named)


def adopt_node(node_type: type[Any]) -> None:
    """Let `await` of a `node_type` take the short way. Here there is none."""


def adopt_descriptor(descriptor_type: type[Any]) -> None:
    """Let calls of methods by a `descriptor_type` take the short way. Here there is none."""
