"""Consolidation: a change reaches the dependents of a result only if computing again gives another value (*cutoff*).

A compute method with a `consolidation_delay` has two computeds for each key. The *source* runs the body and has its
dependencies; nobody sees it. The *target* is what everybody reads and depends on: it has the output of the source, and
the source as its one dependency.

When the source is invalidated, the target stays consistent. After the delay the source is computed again, once, however
much has changed meanwhile. If it gives the same again, the target depends on the new source, and nobody hears anything;
if not, the target is invalidated. A target that nobody depends on, or observes, is invalidated right away: whoever
comes next computes it, if somebody does.

Invariant: a consistent target that is computed here depends on its live source, or is being consolidated; then the
`Consolidation` stands in its `_expiry`. In all that can go wrong in between the target is invalidated.

(The idea is that of the consolidating compute methods of ActualLab.Fusion.)
"""

from __future__ import annotations

import asyncio
import logging
from contextvars import Context
from dataclasses import replace
from functools import partial
from typing import Any

from fusion_cluster.failures.exits import reraise_outside
from fusion_cluster.graph.computing.computation import Waiter
from fusion_cluster.graph.computing.equality import is_same_output
from fusion_cluster.graph.computing.function import Function
from fusion_cluster.graph.computing.surroundings import Producer
from fusion_cluster.graph.computing.waiting import enter
from fusion_cluster.graph.core.hot_path import CONSISTENT, Node, has_dependents, link
from fusion_cluster.graph.core.key import SOURCE
from fusion_cluster.graph.core.state import has_output
from fusion_cluster.graph.why.cause import Cause

log = logging.getLogger(__name__)


def give_source(function: Function[Any], producer: Producer) -> None:
    """Make the computeds of `function` targets: its body runs in a source from now on.

    The source has the options that are about computing: when a result is too old, an error to be tried again, an
    invalidation to wait. How long a result is kept is up to the target.

    Args:
        function: of which nothing has been computed yet.
        producer: runs bodies here.
    """
    method = replace(
        function.method,
        method_name=f"{function.method_name}{SOURCE}",
        options=replace(function.options, consolidation_delay=None, min_cache_duration=0.0),
    )
    source: Function[Any] = Function(method, body=function.body, hosting=producer, graph=function.graph)
    function.source = source
    function.body = partial(_read, source)


async def _read(source: Function[Any], /, *args: Any, **kwargs: Any) -> Any:
    return await source.find(args, kwargs)


def is_source(node: Node[Any]) -> bool:
    """Tell whether `node` runs the body for a target."""
    function: Function[Any] = node.function
    return function.method_name.endswith(SOURCE)


def is_consolidated(node: Node[Any]) -> bool:
    """Tell whether it is being found out now if `node` is up to date; its value must not be let go of meanwhile."""
    return isinstance(node._expiry, Consolidation)


def consolidate(target: Node[Any], cause: Cause, loop: asyncio.AbstractEventLoop) -> bool:
    """Begin to find out whether a consistent target, whose source is out of date, is up to date.

    Without effect if that goes on already: what has changed meanwhile is heard from the source.

    Args:
        target: the target.
        cause: why its source was invalidated.
        loop: where to wait for the delay.

    Returns:
        Whether it has to be found out. If not, the target is to be invalidated: nobody would miss its output, or there
        is none to compare with.
    """
    if target._expiry is not None:
        return True
    if target._is_paged_out or not _is_wanted(target):
        return False
    target._expiry = Consolidation(target, cause, loop)
    return True


class Consolidation:
    """What happens to one target between the invalidation of its source and the verdict.

    Args:
        target: a consistent target.
        cause: why its source was invalidated.
        loop: the event loop of the graph.
    """

    __slots__ = ("_cause", "_invalidated_at_s", "_loop", "_source", "_target", "_timer", "_waiter")

    def __init__(self, target: Node[Any], cause: Cause, loop: asyncio.AbstractEventLoop) -> None:
        self._target = target
        self._cause = cause
        self._loop = loop
        self._source: Any = None
        """The source that is computed now."""
        self._invalidated_at_s = 0.0
        """When that was found to be out of date, if it was."""
        self._waiter: Waiter | None = None
        self._timer = self._compute_at(loop.time() + self._delay_s)

    def cancel(self) -> None:
        """End without a verdict, since the target has been invalidated. Its source is computed on only for others."""
        self._timer.cancel()
        self._forget_source()
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.leave()

    # -- inside ------------------------------------------------------------------------------------------------------
    @property
    def _delay_s(self) -> float:
        function: Function[Any] = self._target.function
        return function.options.consolidation_delay or 0.0

    def _pause_s(self, source: Node[Any]) -> float:
        """Return how long to wait after a computation that was out of date when it ended."""
        if source._failure is None:
            return self._delay_s
        # Perhaps it will never be anything else: an error that is not to last. That is not asked for all the time.
        function: Function[Any] = source.function
        return max(self._delay_s, function.options.transient_error_delay)

    def _compute_at(self, when_s: float) -> asyncio.Handle:
        context = Context()  # of its own: the source is computed for nobody in particular
        if when_s <= self._loop.time():
            return self._loop.call_soon(self._compute, context=context)
        return self._loop.call_at(when_s, self._compute, context=context)

    def _compute(self) -> None:
        """Compute the source, if that is worth it."""
        target = self._target
        function = target.function.source
        if function is None or not _is_wanted(target):
            self._invalidate()
            return
        try:
            source = function.lookup(target.arguments)
            if target._expiry is self:  # else the source has driven it out
                self._source = source
                source.on_invalidated(self._on_invalidated)
                if has_output(source):
                    self._on_computed(source)
                    return
                waiter = enter(source, None, self._on_computed)
                if target._expiry is self:
                    self._waiter = waiter
                else:  # the first step of the body has invalidated it
                    waiter.leave()
        except BaseException as raised:
            reraise_outside(raised)
            log.exception("%s cannot be computed to see whether it has changed", target.function.name)
            self._invalidate()

    def _on_invalidated(self, _source: Node[Any]) -> None:
        self._invalidated_at_s = self._loop.time()

    def _on_computed(self, source: Node[Any]) -> None:
        target = self._target
        if target._expiry is not self:
            return
        is_settled = False
        try:
            is_same = is_same_output(target, source)
            if target._expiry is not self:  # comparing values has invalidated it
                is_settled = True
            elif is_same and source._state == CONSISTENT:
                link(target, source)
                target._expiry = None
                is_settled = True
            elif is_same:
                # It has changed again while it was computed, so this does not tell how things are now.
                self._timer = self._compute_at(self._invalidated_at_s + self._pause_s(source))
                is_settled = True
        finally:
            self._forget_source()
            if not is_settled:
                self._invalidate()

    def _invalidate(self) -> None:
        self._target.function.graph.invalidate_now(self._target, self._cause)

    def _forget_source(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            source.remove_observer(self._on_invalidated)


def _is_wanted(target: Node[Any]) -> bool:
    return has_dependents(target) or target._observers is not None
