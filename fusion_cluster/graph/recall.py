"""What a graph's history tells of a key: its events put together into explanations and stories.

The history is a ring, so causes are forgotten before what they have caused: a chain that cannot be followed to its end
lacks its origin's side. The origin itself stands in each event.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fusion_cluster.graph.cause import EVICTED, Cause
from fusion_cluster.graph.computed import Computed, State
from fusion_cluster.graph.consolidation import SOURCE
from fusion_cluster.graph.core import CONSISTENT
from fusion_cluster.graph.explanation import Explanation, Happening, Hop, StoryEntry, Trace
from fusion_cluster.graph.key import Key
from fusion_cluster.graph.pure.history import COMPUTED, DELAYED, FAILED, OUT_OF_DATE, PAGED_IN, PAGED_OUT

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


class _Events:
    """What the history of a graph holds now, oldest first."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._events: list[Any] = graph.registry.history.events()
        self._first: int = self._events[0][0] if self._events else 0

    def at(self, number: int) -> _Event | None:
        """Return the event of that number, unless it is forgotten."""
        place = number - self._first
        if not 0 <= place < len(self._events):
            return None
        event = _Event._make(self._events[place])
        return event if event.number == number else None

    def of(self, function: ComputeFunction, table_key: object) -> Iterator[_Event]:
        """Go through the events of a key, oldest first."""
        for event in self._events:
            if event[2] is function and event[3] == table_key:
                yield _Event._make(event)

    def delay_before(self, event: _Event) -> _Event:
        """Return the beginning of the wait at whose end this event is; the event itself if there was none."""
        found = event
        if event.via < 0 and event.function.table.is_delayed:
            for earlier in self.of(event.function, event.table_key):
                if earlier.number >= event.number:
                    break
                if earlier.kind == DELAYED and earlier.version == event.version and earlier.cause is event.cause:
                    found = earlier
        return found

    def trace(self, event: _Event) -> Trace:
        """Follow an invalidation from one of the computeds that it reached back to its origin."""
        cause = event.cause
        assert isinstance(cause, Cause)
        hops: list[Hop] = []
        events = self
        of_graphs: dict[Graph, _Events] = {self._graph: self}
        following: _Event | None = event
        while following is not None:
            if not hops or not following.function.method_name.endswith(SOURCE):
                hops.append(Hop(following.key, following.version, following.time_s))
            step = events.delay_before(following)
            if step.via < 0:
                return Trace(tuple(hops), cause)
            if step.home is not None:
                graph = step.home()
                if graph is None:
                    break
                if graph not in of_graphs:
                    of_graphs[graph] = _Events(graph)
                events = of_graphs[graph]
            following = events.at(step.via)
        return Trace(tuple(hops), cause, has_forgotten_hops=True)


def explain(graph: Graph, what: Key | Computed[Any]) -> Explanation | None:
    """Tell why a key, or the very computed given, is out of date (see `Graph.why`)."""
    found = _resolve(graph, what)
    if found is None:
        return None
    function, table_key = found
    live: Computed[Any] | None = function.table.get(table_key)
    node = what if isinstance(what, Computed) else live
    events = _Events(function.graph)
    own = list(events.of(function, table_key))
    last = _last_invalidation(own, None if node is live else node)
    if node is None and last is None:
        return None
    trace = None if last is None else events.trace(last)
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
    events = _Events(found[0].graph)
    return [_entry(events, event) for event in events.of(*found)]


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


def _entry(events: _Events, event: _Event) -> StoryEntry:
    happening = _HAPPENINGS[event.kind]
    cause = event.cause
    if not isinstance(cause, Cause):
        return StoryEntry(happening, event.time_s, event.version, error=cause or "")
    if event.kind not in (OUT_OF_DATE, DELAYED):
        return StoryEntry(happening, event.time_s, event.version, trace=Trace((), cause))
    if event.kind == OUT_OF_DATE and event.via < 0 and cause.kind == EVICTED:
        happening = Happening.EVICTED
    return StoryEntry(happening, event.time_s, event.version, trace=events.trace(event))
