"""What a computation stands in, and does not know: the graph that it is part of, and what its value comes from.

Three seams. A computation and its graph call each other: the graph cancels computations, a computation has its node
admitted. Hosts, which are above all this, decide where a value comes from. Strict hosts guard results.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Protocol, cast

from fusion_cluster.graph.computing.eager import EagerStarter
from fusion_cluster.graph.core.doubt import Doubt
from fusion_cluster.graph.core.fence import Fence
from fusion_cluster.graph.core.hot_path import Node, Registry
from fusion_cluster.graph.why.cause import Cause
from fusion_cluster.runtime import SYSTEM, Runtime


class Producer(Protocol):
    """Gives nodes their values: the part of a hosting that computing needs."""

    def produce(self, node: Any) -> Coroutine[Any, Any, Any]:
        """Return the coroutine that gives `node` its value: its body, or a read from the owner.

        It runs in a task of its own with `node` as the current computation. It may set `node.version`, and register
        with `node.on_invalidated`.
        """
        ...

    def schedules_expiry(self, node: Any) -> bool:
        """Tell whether this process invalidates `node` after its delays; a replica leaves that to the owner."""
        ...


class Guard(Protocol):
    """What looks after the results of one graph."""

    def admit(self, node: Any, value: Any) -> Any:
        """Return what is cached for `value`, which the computation of `node` has given.

        Raises:
            FusionError: it is not let in; the computation ends with this error.
        """
        ...

    def before_read(self, node: Any) -> None:
        """Hear that somebody is about to be given the value of `node`.

        Raises:
            FusionError: it must not be given.
        """
        ...

    def before_invalidation(self, node: Node[Any]) -> None:
        """Hear that `node`, and what depends on it, is about to be marked as out of date. Never raises."""
        ...


class Surroundings(Protocol):
    """The graph, as functions and computations see it (`Graph` says what each does).

    Attributes:
        registry: its live nodes.
        fence: until when it may serve them without asking.
        doubt: those that may not be served for a moment.
        is_transient: tells which errors may go away by themselves.
        timer_context: in which timers run.
        max_bytes: its bound.
        thread_id: its thread; None until it has one.
        current_starter: starts tasks in its loop; None until it has one.
        computation_count: computations started so far.
        is_closed: nothing is computed any more.
        runtime: starts the tasks of what is around computations.
    """

    runtime: Runtime
    registry: Registry
    fence: Fence
    doubt: Doubt
    is_transient: Callable[[Exception], bool]
    timer_context: Context
    max_bytes: float
    thread_id: int | None
    current_starter: EagerStarter | None
    computation_count: int
    is_closed: bool

    @property
    def node_type(self) -> type[Any]:
        """The type of its nodes."""
        ...

    @property
    def guard(self) -> Guard | None:
        """What looks after its results, if anything does."""
        ...

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """Its event loop; None if it has none yet, or that is closed."""
        ...

    def starter(self, used_for: object = "") -> EagerStarter:
        """Return what starts tasks in the running loop."""
        ...

    def is_in_own_thread(self) -> bool:
        """Tell whether this thread is the graph's, or may become it."""
        ...

    def no_output(self) -> BaseException:
        """Return what is raised to those who wait for a computation that was given up."""
        ...

    def on_pending(self, computation: Any, task: asyncio.Task[None]) -> None:
        """Keep a computation that did not end at once until its task has ended."""
        ...

    def admit(self, node: Any) -> None:
        """Make a node that has its output consistent, or invalidate it right away."""
        ...

    def page_in(self, node: Any, value: object) -> None:
        """Give a node whose value was paged out that value again."""
        ...

    def invalidate(self, node: Node[Any], cause: Cause) -> None:
        """Mark a node and its dependents as out of date, after their delays."""
        ...

    def invalidate_now(self, node: Node[Any], cause: Cause) -> None:
        """Mark a node and its dependents as out of date, without delay."""
        ...

    def outdate_user(self, user: Node[Any], used: Node[Any]) -> None:
        """Mark a node that computes as out of date, because what it is given is."""
        ...

    def replace(self, old: Node[Any] | None, new: Any, cause: Cause) -> None:
        """Put a node that has its output in the place of another."""
        ...


def runtime_of(computation: Node[Any] | None) -> Runtime:
    """Return the runtime of the graph of a computation; outside of all computations (None), the machine's."""
    return SYSTEM if computation is None else cast(Surroundings, computation.function.graph).runtime
