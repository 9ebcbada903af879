"""How long an output stands by its options, and what is said of it when its time is over."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from fusion_cluster.failures.failure import Failure, error_name, is_memoized, retry_rule
from fusion_cluster.graph.computing.function import Function
from fusion_cluster.graph.computing.surroundings import Surroundings
from fusion_cluster.graph.core.hot_path import Node
from fusion_cluster.graph.core.pure.history import COMPUTED, FAILED
from fusion_cluster.graph.why.cause import Cause

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop


def lifetime_of(node: Node[Any]) -> tuple[float, Cause]:
    """Return for how many seconds the output of `node` stands, 0 if not at all, and the cause of its end."""
    function: Function[Any] = node.function
    failure: Failure | None = node._failure
    if failure is not None and not is_memoized(failure.error):
        return 0.0, Cause("expired", f"{type(failure.error).__name__} is an error that is not kept as a result")
    if function.source is not None or not function.hosting.schedules_expiry(node):
        return math.inf, _KEPT
    delay_s = function.options.auto_invalidation_delay
    if failure is not None:
        retry_delay_s, rule = retry_rule(
            failure.error,
            transient_error_delay=function.options.transient_error_delay,
            error_delay=function.options.error_delay,
            classifier=function.graph.is_transient,
        )
        if retry_delay_s <= delay_s:
            name = type(failure.error).__name__
            return retry_delay_s, Cause("expired", f"the {rule} of {retry_delay_s:g} s after {name} was over")
    return delay_s, _auto_invalidation(delay_s)


def end_after(node: Node[Any], delay_s: float, cause: Cause, loop: AbstractEventLoop) -> None:
    """Let `node` be invalidated in `delay_s`, if its body has not said that it ends earlier (see `expiry`)."""
    said: Any = node._expiry
    if said is not None:
        if said.when() <= loop.time() + delay_s:
            return
        said.cancel()
    graph: Surroundings = node.function.graph
    node._expiry = loop.call_later(delay_s, graph.invalidate_now, node, cause, context=graph.timer_context)


def note_brief_output(node: Node[Any], cause: Cause | None = None) -> None:
    """Note in the history that `node` has got an output with which it will never be consistent.

    Args:
        node: it has its output.
        cause: why not, of a value.
    """
    failure: Failure | None = node._failure
    history = node.table.registry.history
    if failure is None:
        history.record(COMPUTED, node, -1, cause)
    else:
        history.record(FAILED, node, -1, error_name(failure))


@lru_cache(64)
def _auto_invalidation(delay_s: float) -> Cause:
    return Cause("expired", f"its auto_invalidation_delay of {delay_s:g} s was over")


_KEPT: Final = Cause("expired")
