"""`expire_after` and `expire_at`: how a body says for how long its result stands, where it knows that only as it runs.

What the body has said stands where the timer stands that ends a node's life (`Node._expiry`), from that moment on: so
whatever invalidates the node in the meantime ends it, too, and a result whose time is over while it is still being
computed is out of date from birth.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from fusion_cluster.bodies.crossing import current_crossing
from fusion_cluster.errors import UsageError
from fusion_cluster.graph.core.context import is_rehearsing, running_computation
from fusion_cluster.graph.core.hot_path import CONSISTENT, Node
from fusion_cluster.graph.why.cause import Cause, call_site
from fusion_cluster.quantities import as_number

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, TimerHandle

    from fusion_cluster.graph.computed import Computed

SHORTEST_WAIT_S: Final = 0.001
"""How long to wait again after a timer that came too early: timers of event loops know milliseconds."""


def expire_after(delay_s: float) -> None:
    """Let the result that is being computed be out of date in `delay_s` seconds from now, with all its dependents.

    For the body of a compute method, or what it calls: where the time is the same for every result of the method, say
    `auto_invalidation_delay` instead. What is said several times holds for the earliest. Replicas in other processes
    are told by the owner of the key, where the body runs.

    >>> @compute_method
    ... async def token(self, user_id: str) -> str:
    ...     answer = await self.fetch_token(user_id)
    ...     expire_after(answer.expires_in_s - 60)
    ...     return answer.token

    Args:
        delay_s: with 0, or less, the result is given to those who wait for it, and kept for nobody; infinite says
            nothing.

    Raises:
        UsageError: it is not a number, or no compute method runs here.
    """
    delay_s = _number("delay_s", delay_s)
    cause = call_site("expired", f"the {delay_s:g} s that its body gave it by expire_after() were over")
    _say(delay_s, by_wall=False, cause=cause)


def expire_at(moment: float | datetime) -> None:
    """Let the result that is being computed be out of date at a time of day, with all its dependents.

    As `expire_after`, by the clock on the wall: never before that says so, so that computing again finds that
    it is that late; and as soon as a timer can tell. (A clock that is set forward meanwhile is looked at when the timer
    ends.)

    >>> @compute_method
    ... async def is_open(self, shop_id: int) -> bool:
    ...     hours = await self.hours(shop_id)
    ...     now = datetime.now(UTC)
    ...     expire_at(hours.next_change(now))
    ...     return hours.is_open(now)

    Args:
        moment: a time with its zone, or the seconds since the epoch; one that is past is like a delay of 0.

    Raises:
        UsageError: it is neither, or no compute method runs here.
    """
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise UsageError("moment must have a time zone: datetime.now(UTC)", field="moment")
        moment = moment.timestamp()
    moment = _number("moment", moment)
    _say(moment, by_wall=True, cause=call_site("expired", f"its body let it expire at {_clock_time(moment)}"))


class Expiry:
    """The end of a result's time, as its body has said it; stands in `Node._expiry`.

    Args:
        node: what expires; it is being computed.
        at_s: when.
        clock: by which clock.
        cause: what its invalidation goes back to.
        loop: the event loop of its graph.
    """

    __slots__ = ("_at_s", "_cause", "_clock", "_loop", "_node", "_timer")

    def __init__(
        self, node: Computed[Any], at_s: float, clock: Callable[[], float], cause: Cause, loop: AbstractEventLoop
    ) -> None:
        self._node = node
        self._at_s = at_s
        self._clock = clock
        self._cause = cause
        self._loop = loop
        self._timer = self._wait(at_s - clock())

    def when(self) -> float:
        """When the timer ends, as the loop's clock shows it."""
        return self._timer.when()

    def cancel(self) -> None:
        """The node has been invalidated, or ends earlier."""
        self._timer.cancel()

    def _wait(self, delay_s: float) -> TimerHandle:
        return self._loop.call_later(delay_s, self._on_time, context=self._node.function.graph.timer_context)

    def _on_time(self) -> None:
        left_s = self._at_s - self._clock()
        if left_s > 0:
            self._timer = self._wait(max(left_s, SHORTEST_WAIT_S))
        else:
            self._node.function.graph.invalidate_now(self._node, self._cause)


def _say(at_s: float, *, by_wall: bool, cause: Cause) -> None:
    """Let the result that is being computed here, or on whose behalf this thread runs, end then.

    Args:
        at_s: when.
        by_wall: by the clock on the wall; else so long from now.
        cause: what its invalidation goes back to.
    """
    node = running_computation.get()
    crossing = current_crossing()
    if node is None and crossing is None and is_rehearsing.get():
        return  # there is a value to compare, and no result
    if node is None and crossing is None:
        raise UsageError("no compute method runs here, unless as a task: there is no result that could expire")
    if at_s == math.inf:
        return
    if node is not None:
        _begin(node, at_s, by_wall, cause)
    elif crossing is not None:
        crossing.tell(lambda node: _begin(node, at_s, by_wall, cause))


def _begin(node: Node[Any], at_s: float, by_wall: bool, cause: Cause) -> None:
    computed: Any = node
    if computed._computation is None and computed.has_output:
        raise UsageError(f"{computed.key} has been computed: its body is to say how long it stands, before it returns")
    if computed._computation is None or computed._state > CONSISTENT:
        return  # nobody waits for it any more, or it is out of date already
    graph = node.function.graph
    loop = graph.starter().loop
    clock: Callable[[], float] = graph.runtime.clock.wall if by_wall else loop.time
    if not by_wall:
        at_s += clock()
    delay_s = at_s - clock()
    if delay_s <= 0:
        graph.invalidate_now(node, cause)
        return
    said: Any = node._expiry
    if said is None or said.when() > loop.time() + delay_s:
        if said is not None:
            said.cancel()
        node._expiry = Expiry(computed, at_s, clock, cause, loop)


def _number(field: str, value: object) -> float:
    return as_number(field, value, "a number", least=-math.inf)


def _clock_time(at_s: float) -> str:
    try:
        return datetime.fromtimestamp(at_s, UTC).isoformat(sep=" ", timespec="milliseconds")
    except (OverflowError, ValueError, OSError):  # of a year that no calendar has
        return f"{at_s:g} s after 1970"
