"""What a graph's history tells of a key: its events put together into explanations and stories.

The history is a ring, so causes are forgotten before what they have caused: a chain that cannot be followed to its end
lacks its origin's side. The origin itself stands in each event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fusion_cluster.graph.computed import Computed, State
from fusion_cluster.graph.computing.consolidation import SOURCE
from fusion_cluster.graph.core.hot_path import CONSISTENT
from fusion_cluster.graph.core.key import Key
from fusion_cluster.graph.core.pure.history import COMPUTED, DELAYED, FAILED, OUT_OF_DATE, PAGED_IN, PAGED_OUT
from fusion_cluster.graph.why.cause import EVICTED, Cause
from fusion_cluster.graph.why.explanation import Explanation, Happening, Hop, StoryEntry, Trace

if TYPE_CHECKING:
    from weakref import ref

    from fusion_cluster.graph.function import ComputeFunction
    from fusion_cluster.graph.graph import Graph

_HAPPENINGS: Final = {
    COMPUTED: Happening.COMPUTED,
    FAILED: Happening.FAILED,
    OUT_OF_DATE: Happening.INVALIDATED,
    PAGED_OUT: Happening.PAGED_OUT,
    PAGED_IN: Happening.PAGED_IN,
    DELAYED: Happening.DELAYED,
}


class _Event(NamedTuple):
    """See `pure.history.Event`."""

    number: int
    kind: int
    function: ComputeFunction
    table_key: Any
    version: int
    via: int
    cause: Cause | str | None
    time_s: float
    home: ref[Graph] | None

    @property
    def key(self) -> Key:
        function = self.function
        arguments = (self.table_key,) if function.table.is_keyed_by_argument else self.table_key
        return Key(function.service_name, function.method_name, arguments)


def _event_at(graph: Graph, number: int) -> _Event | None:
    event: Any = graph.registry.history.event(number)
    return None if event is None else _Event._make(event)


def _events_of(function: ComputeFunction, table_key: object) -> list[_Event]:
    events: list[Any] = function.graph.registry.history.events_of(function, table_key)
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
        graph = following.function.graph if step.home is None else step.home()
        following = None if graph is None else _event_at(graph, step.via)
    return Trace(tuple(hops), cause, has_forgotten_hops=True)


def explain(graph: Graph, what: Key | Computed[Any]) -> Explanation | None:
    """Tell why a key, or the very computed given, is out of date (see `Graph.why`)."""
    found = _resolve(graph, what)
    if found is None:
        return None
    function, table_key = found
    live: Computed[Any] | None = function.table.get(table_key)
    node = what if isinstance(what, Computed) else live
    own = _events_of(function, table_key)
    last = _last_invalidation(own, None if node is live else node)
    if node is None and last is None:
        return None
    trace = None if last is None else _trace(last)
    key = Key(function.service_name, function.method_name, what.arguments)
    if node is None:
        return Explanation(key, State.INVALIDATED, is_out_of_date=True, trace=trace)
    is_out_of_date = node._state > CONSISTENT
    computed_at_s = None
    if node._state == CONSISTENT:
        at_s = [event.time_s for event in own if event.kind in (COMPUTED, FAILED) and event.version == node.version]
        computed_at_s = at_s[-1] if at_s else None
    return Explanation(key, node.state, is_out_of_date=is_out_of_date, computed_at_s=computed_at_s, trace=trace)


def tell(graph: Graph, what: Key | Computed[Any]) -> list[StoryEntry]:
    """Tell what has happened to a key (see `Graph.story`)."""
    found = _resolve(graph, what)
    if found is None:
        return []
    return [_entry(event) for event in _events_of(*found)]


def _resolve(graph: Graph, what: Key | Computed[Any]) -> tuple[ComputeFunction, Any] | None:
    if isinstance(what, Computed):
        return what.function, what.table_key
    function = graph.functions.get(f"{what.service}.{what.method}")
    return None if function is None else (function, function._table_key(what.arguments))


def _last_invalidation(events: list[_Event], node: Computed[Any] | None) -> _Event | None:
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
