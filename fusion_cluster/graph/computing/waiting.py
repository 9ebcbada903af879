"""Waiting for a computation, and the cycles that must not be waited for.

What each computation waits for (`Computation.waits`) is the wait-for graph. When a wait would close a cycle in it, one
wait of that cycle is refused with `CircularDependencyError`: the wait for the key of the lowest `rank`. So
computations never wait for each other without end, and their results do not depend on which of them began first. (They
may, where bodies wait for several keys at once and are part of several cycles.)

An outdated computation is not joined, so a cycle of keys whose computations are outdated again and again (by evictions,
say) would not be a cycle of nodes, but a chain without end. A chain in which too many computations of one key wait for
each other is therefore refused too. One or two are not a cycle yet: the data may have changed so that the key no longer
needs itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final, NoReturn

from fusion_cluster.errors import CircularDependencyError
from fusion_cluster.graph.computing.computation import Computation, Waiter
from fusion_cluster.graph.computing.function import Function
from fusion_cluster.graph.computing.rank import rank
from fusion_cluster.graph.core.context import running_computation
from fusion_cluster.graph.core.hot_path import COMPUTING, OUTDATED, Node, link
from fusion_cluster.graph.core.key import key_of
from fusion_cluster.runtime.deadline import NO_DEADLINE, current_deadline

_get_running: Final = running_computation.get
_get_deadline: Final = current_deadline.get

MAX_GENERATIONS: Final = 8
"""How many outdated computations of one key may wait for each other."""

MAX_REVIEWED: Final = 1_000
"""How many computations `latest_deadline_s` looks at; where more wait, some are taken to have no deadline."""


def enter(
    node: Node[Any],
    dependent: Node[Any] | None,
    on_done: Callable[[Any], object] | None = None,
    *,
    deadline_s: float | None = None,
    is_eager: bool = True,
) -> Waiter:
    """Wait for `node`, which has no output, on behalf of `dependent`; start its computation if nobody has.

    The computation may be over when this returns: then the waiter's is None, and `on_done` has been called.

    Args:
        node: a live node, or one that is outdated.
        dependent: the current computation, if any.
        on_done: called with the node when the computation ends; may be set later, if it has not ended by then.
        deadline_s: until when it waits, if no computation does on whose behalf; None: the deadline of this context.
        is_eager: run the first step of the body now, not in the next turn of the loop.

    Raises:
        CircularDependencyError: `node` waits, directly or through others, for `dependent`, and this wait is the one
            that is refused.
        UsageError: this is not the event loop of the graph.
    """
    is_isolated = False
    if dependent is None and (running := _get_running()) is not None:
        dependent = _blocked(running)
        is_isolated = True
    waiting: Computation | None = None if dependent is None else dependent._computation
    if dependent is not None and waiting is not None:
        _break_cycles(dependent, node, is_isolated=is_isolated)
        function: Function[Any] = node.function
        if function.outdated and node._computation is None:
            _refuse_endless_chain(dependent, node, is_isolated=is_isolated)
    else:
        dependent = None  # nobody who computes waits: a computation that has ended waits no more
    computation: Computation | None = node._computation
    if deadline_s is None:
        deadline = _get_deadline() if dependent is None else None
        deadline_s = NO_DEADLINE if deadline is None else deadline.until_s
    if computation is not None:
        waiter = Waiter(computation, dependent, on_done, is_isolated, deadline_s)
        computation.waiters[waiter] = None
        if waiting is not None:
            waiting.start_waiting(waiter, node)
            on_joined = node.function.graph.on_joined
            if on_joined is not None:
                on_joined(node)
        return waiter
    node._computation = computation = Computation(node)
    waiter = Waiter(computation, dependent, None, is_isolated, deadline_s)
    computation.waiters[waiter] = None
    if waiting is not None:
        waiting.start_waiting(waiter, node)
    computation.start(is_eager)
    if waiter.refused is not None:  # in the first step of the body, which has closed a cycle
        raise CircularDependencyError(waiter.refused)
    if waiter.computation is not None:
        waiter.on_done = on_done
    elif on_done is not None:
        on_done(node)
    return waiter


def refuse(waiter: Waiter, path: str) -> None:
    """End a wait that is part of a cycle: it ends with `CircularDependencyError`, for nobody else.

    The dependent's result rests on what the others wait for: so the edge stays, and the computation goes on, also if
    nobody else waits for it.

    Args:
        waiter: it has a dependent that computes.
        path: the cycle, in words.
    """
    computation, dependent = waiter.computation, waiter.dependent
    waiting: Computation | None = None if dependent is None else dependent._computation
    if computation is None or dependent is None or waiting is None:
        return
    node = computation.node
    waiter.computation = None
    waiter.refused = path
    del computation.waiters[waiter]
    waits = waiting.waits_isolated if waiter.is_isolated else waiting.waits_for
    if waits is not None and node in waits:
        waits[node] -= 1
        if not waits[node]:
            del waits[node]
    if not waiter.is_isolated and dependent._state == COMPUTING:
        kept = Waiter(computation, deadline_s=latest_deadline_s(dependent, NO_DEADLINE))
        computation.waiters[kept] = None
    elif not computation.waiters:
        computation.abandon()
    if waiter.on_done is not None:
        waiter.on_done(node)


def waits_between(dependent: Node[Any], node: Node[Any]) -> list[Waiter]:
    """Return the waits of a computation for another one."""
    computation: Computation | None = node._computation
    return [] if computation is None else [w for w in computation.waiters if w.dependent is dependent]


def latest_deadline_s(node: Node[Any], unlimited_s: float) -> float:
    """Return until when somebody waits for a computation, directly or through others: the latest of their deadlines.

    Args:
        node: what is computed.
        unlimited_s: counts as the deadline of those who have none.
    """
    latest_s: float = -NO_DEADLINE
    seen = {node}
    pending = [node]
    while pending:
        computation: Computation | None = pending.pop()._computation
        for waiter in computation.waiters if computation is not None else ():
            dependent = waiter.dependent
            if dependent is None:
                deadline_s = waiter.deadline_s
                latest_s = max(latest_s, unlimited_s if deadline_s == NO_DEADLINE else deadline_s)
            elif dependent not in seen:
                if len(seen) == MAX_REVIEWED:
                    return max(latest_s, unlimited_s)
                seen.add(dependent)
                pending.append(dependent)
    return latest_s if latest_s > -NO_DEADLINE else unlimited_s


def _blocked(running: Node[Any]) -> Node[Any] | None:
    """Return the computation whose body would be held up by a wait under `isolated()`.

    Only a wait in the body's own task is sure to hold it up: a task that the body made may well outlive it.
    """
    computation: Computation | None = running._computation
    if computation is None or (computation.task is not None and computation.task is not asyncio.current_task()):
        return None
    return running


def _break_cycles(dependent: Node[Any], node: Node[Any], *, is_isolated: bool) -> None:
    """Refuse a wait of each cycle that is closed if `dependent` waits for `node`; raise if it is this one."""
    while node is dependent or (node._computation is not None and node._computation.is_waiting):
        path = _path(node, dependent)
        if path is None:
            return
        ranks = [rank(step) for step in path]
        index = ranks.index(min(ranks))
        if index == 0:
            _fail(dependent, node, path, is_isolated=is_isolated)
        text = _in_words([*path[index - 1 :], *path[:index]])
        for waiter in waits_between(path[index - 1], path[index]):
            refuse(waiter, text)


def _refuse_endless_chain(dependent: Node[Any], node: Node[Any], *, is_isolated: bool) -> None:
    function: Function[Any] = node.function
    if function.outdated.get(node.table_key, 0) < MAX_GENERATIONS:
        return
    path: list[Node[Any]] | None = None
    generations = 0
    for waiting in _transitive_waiters(dependent):
        if waiting.function is function and waiting.table_key == node.table_key:
            generations += 1
            path = path or _path(waiting, dependent)
    if path is not None and generations >= MAX_GENERATIONS:
        _fail(dependent, node, path, is_isolated=is_isolated)


def _fail(dependent: Node[Any], node: Node[Any], path: list[Node[Any]], *, is_isolated: bool) -> NoReturn:
    if node is not dependent and not is_isolated and dependent._state == COMPUTING:
        # The error rests on what the others wait for: when that changes, it is out of date.
        if node._state == OUTDATED:
            dependent.function.graph.outdate_user(dependent, node)
        else:
            link(dependent, node)
    raise CircularDependencyError(_in_words([dependent, *path]))


def _transitive_waiters(node: Node[Any]) -> Iterator[Node[Any]]:
    """Go through `node` and all computations that wait for it, directly or through others; the nearest first."""
    seen = {node}
    pending = deque(seen)
    while pending:
        current = pending.popleft()
        yield current
        if current._computation is not None:
            for waiter in current._computation.waiters:
                if waiter.dependent is not None and waiter.dependent not in seen:
                    seen.add(waiter.dependent)
                    pending.append(waiter.dependent)


def _in_words(path: list[Node[Any]]) -> str:
    return " → ".join(str(key_of(node)) for node in path)


def _path(start: Node[Any], end: Node[Any]) -> list[Node[Any]] | None:
    """Return the nodes from `start` to `end` along the wait-for graph, or None. A loop, no recursion."""
    came_from: dict[Any, Node[Any] | None] = {start: None}
    pending: list[Node[Any]] = [start]
    while pending:
        node = pending.pop()
        if node is end:
            path: list[Any] = []
            step: Any = node
            while step is not None:
                path.append(step)
                step = came_from[step]
            return path[::-1]
        computation: Computation | None = node._computation
        if computation is not None:
            for awaited in computation.waits():
                if awaited not in came_from:
                    came_from[awaited] = node
                    pending.append(awaited)
    return None
