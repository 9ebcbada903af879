"""Puts the events of a graph's history together into explanations and stories of a key.

The history is a ring, so causes are forgotten before what they have caused: a chain that cannot be followed to its end
lacks its origin's side. The origin itself stands in each event.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

from fusion_cluster.graph.core.hot_path import CONSISTENT, Node, Registry, Table
from fusion_cluster.graph.core.key import SOURCE, Key
from fusion_cluster.graph.core.pure.history import COMPUTED, DELAYED, FAILED, OUT_OF_DATE, PAGED_IN, PAGED_OUT
from fusion_cluster.graph.core.state import SHOWN, State
from fusion_cluster.graph.why.cause import EVICTED, Cause
from fusion_cluster.graph.why.explanation import Explanation, Happening, Hop, StoryEntry, Trace

_HAPPENINGS: Final = {
    COMPUTED: Happening.COMPUTED,
    FAILED: Happening.FAILED,
    OUT_OF_DATE: Happening.INVALIDATED,
    PAGED_OUT: Happening.PAGED_OUT,
    PAGED_IN: Happening.PAGED_IN,
    DELAYED: Happening.DELAYED,
}


class Method(Protocol):
    """The compute function that an event is about: its names, and where its nodes are looked up."""

    @property
    def service_name(self) -> str:
        """As in the key."""
        ...

    @property
    def method_name(self) -> str:
        """As in the key; that of a source ends with `SOURCE`."""
        ...

    @property
    def table(self) -> Table:
        """Its live nodes."""
        ...


class Home(Protocol):
    """The graph that another history belongs to."""

    @property
    def registry(self) -> Registry:
        """Where its history is."""
        ...


class _Event(NamedTuple):
    """See `pure.history.Event`."""

    number: int
    kind: int
    function: Method
    table_key: Any
    version: int
    via: int
    cause: Cause | str | None
    time_s: float
    home: Callable[[], Home | None] | None

    @property
    def key(self) -> Key:
        return _key(self.function, self.table_key)


def _key(method: Method, table_key: Any) -> Key:
    arguments = (table_key,) if method.table.is_keyed_by_argument else table_key
    return Key(method.service_name, method.method_name, arguments)


def _event_at(registry: Registry, number: int) -> _Event | None:
    event: Any = registry.history.event(number)
    return None if event is None else _Event._make(event)


def _events_of(function: Method, table_key: object) -> list[_Event]:
    events: list[Any] = function.table.registry.history.events_of(function, table_key)
    return [_Event._make(event) for event in events]


def _beginning(event: _Event) -> _Event:
    """Return the beginning of the delay at whose end `event` is; the event itself if there was none."""
    found = event
    if event.via < 0 and event.function.table.is_delayed:
        for earlier in _events_of(event.function, event.table_key):
            if earlier.number >= event.number:
                break
            if earlier.kind == DELAYED and earlier.version == event.version and earlier.cause is event.cause:
                found = earlier
    return found


def _trace(event: _Event) -> Trace:
    """Follow an invalidation from one of the computeds that it reached back to its origin."""
    cause = event.cause
    assert isinstance(cause, Cause)
    hops: list[Hop] = []
    following: _Event | None = event
    while following is not None:
        if not hops or not following.function.method_name.endswith(SOURCE):
            hops.append(Hop(following.key, following.version, following.time_s))
        step = _beginning(following)
        if step.via < 0:
            return Trace(tuple(hops), cause)
        home = following.function.table if step.home is None else step.home()
        following = None if home is None else _event_at(home.registry, step.via)
    return Trace(tuple(hops), cause, has_forgotten_hops=True)


def explain(method: Method, table_key: Any, node: Node[Any] | None = None) -> Explanation | None:
    """Tell why a key, or one computed of it, is out of date (see `Graph.why`).

    Args:
        method: the compute function of the key.
        table_key: the arguments, as its table has them.
        node: the very computed that is asked about; None: the live one.
    """
    live: Node[Any] | None = method.table.get(table_key)
    node = node or live
    own = _events_of(method, table_key)
    last = _last_invalidation(own, None if node is live else node)
    if node is None and last is None:
        return None
    trace = None if last is None else _trace(last)
    key = _key(method, table_key)
    if node is None:
        return Explanation(key, State.INVALIDATED, is_out_of_date=True, trace=trace)
    method.table.registry.check_fence()
    computed_at_s = None
    if node._state == CONSISTENT:
        at_s = [event.time_s for event in own if event.kind in (COMPUTED, FAILED) and event.version == node.version]
        computed_at_s = at_s[-1] if at_s else None
    return Explanation(key, SHOWN[node._state], node._state > CONSISTENT, computed_at_s=computed_at_s, trace=trace)


def tell(method: Method, table_key: Any) -> list[StoryEntry]:
    """Tell what has happened to a key (see `Graph.story`)."""
    return [_entry(event) for event in _events_of(method, table_key)]


def _last_invalidation(events: list[_Event], node: Node[Any] | None) -> _Event | None:
    """Return the event by which `node`, or any computed of the key, was marked as out of date last."""
    if node is not None:
        own = [event for event in events if event.version == node.version]
        if not any(event.kind == OUT_OF_DATE for event in own):
            # It had no version at that time, but was being computed; then its output was noted later.
            until = own[0].number if own else 0
            own = [event for event in events if event.version == 0 and event.number < until]
        events = own
    invalidations = [event for event in events if event.kind == OUT_OF_DATE]
    return invalidations[-1] if invalidations else None


def _entry(event: _Event) -> StoryEntry:
    happening = _HAPPENINGS[event.kind]
    cause = event.cause
    if not isinstance(cause, Cause):
        return StoryEntry(happening, event.time_s, event.version, error=cause or "")
    if event.kind not in (OUT_OF_DATE, DELAYED):
        return StoryEntry(happening, event.time_s, event.version, trace=Trace((), cause))
    if event.kind == OUT_OF_DATE and event.via < 0 and cause.kind == EVICTED:
        happening = Happening.EVICTED
    return StoryEntry(happening, event.time_s, event.version, trace=_trace(event))
