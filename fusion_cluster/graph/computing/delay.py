"""Invalidations that wait, because the user has asked for it: for the `invalidation_delay`, or for a consolidation.

What waits is consistent, and read as ever. What will end the wait stands where the timer stands that ends a node's life
(`Node._expiry`): so whatever invalidates the node in the meantime ends the wait, too, and nothing of it is kept.
"""

from __future__ import annotations

import logging
from contextvars import Context
from typing import TYPE_CHECKING, Any, cast

from fusion_cluster.graph.computing.consolidation import consolidate
from fusion_cluster.graph.computing.function import Function
from fusion_cluster.graph.core.hot_path import CONSISTENT, Node, dependencies_of
from fusion_cluster.graph.why.cause import EVICTED, Cause

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, TimerHandle

log = logging.getLogger(__name__)


def postpone(node: Node[Any], cause: Cause) -> bool:
    """Let the invalidation of a live node wait as its options say; tell whether it does.

    It does not if the node is being computed (whoever comes now must not be given what began before the change), if it
    is a replica (then its owner has waited already), or given up for the sake of memory, and where there is no event
    loop in which time passes.
    """
    function: Function[Any] = node.function
    if not function.hosting.schedules_expiry(node):
        return False
    if function.source is not None:
        function.source.invalidate(node.arguments, cause)  # by which this very node may be reached first
    loop = function.graph.loop
    if node._state != CONSISTENT or cause.kind == EVICTED or loop is None:
        return False
    try:
        return _begin(node, cause, loop)
    except Exception:
        log.exception("the invalidation of %s cannot be made to wait", function.name)
        return False


def _begin(node: Node[Any], cause: Cause, loop: AbstractEventLoop) -> bool:
    function: Function[Any] = node.function
    if function.source is not None:
        # What it still depends on is its source, which waits itself.
        return bool(dependencies_of(node)) or consolidate(node, cause, loop)
    due_s = loop.time() + function.options.invalidation_delay
    timer = cast("TimerHandle | None", node._expiry)
    if timer is None or timer.when() > due_s:
        if timer is not None:
            timer.cancel()
        node._expiry = loop.call_at(due_s, function.graph.invalidate_now, node, cause, context=Context())
    return True
