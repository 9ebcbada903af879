"""What happened last in a graph: a ring of events, cheap enough to be always on."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any, Final, Protocol

from fusion_cluster.runtime.clock import SYSTEM_CLOCK

COMPUTED: Final = 0
FAILED: Final = 1
OUT_OF_DATE: Final = 2
PAGED_OUT: Final = 3
PAGED_IN: Final = 4
DELAYED: Final = 5
"""It will be out of date after the delay of its function."""

MAX_SEARCHED: Final = 1024
"""How many events are looked at for one that another follows from."""

Event = tuple[int, int, Any, Any, int, int, Any, float, Any]
"""Number, kind, compute function, table key, version, number of the event that caused it (or -1), cause, Unix time, and
the `home` of the history that the causing event is in (None: this one)."""


logger = logging.getLogger(__name__)

_system_clock: Final = SYSTEM_CLOCK.wall


class Noted(Protocol):
    """What an event is about: a node, of which it keeps these."""

    @property
    def function(self) -> object:
        """The compute function."""
        ...

    @property
    def table_key(self) -> Any:
        """The arguments."""
        ...

    @property
    def version(self) -> int:
        """Which computed of them."""
        ...


class History:
    """The last events, oldest first; older ones are forgotten.

    Args:
        capacity: how many are kept; 0 keeps none.

    Attributes:
        home: what stands for this history in the events of others. It does not keep the history alive.
        clock: dates the events, in seconds since 1970; None: a clock of the system.
    """

    def __init__(self, capacity: int) -> None:
        self.home: object = None
        self.clock: Callable[[], float] | None = None
        self._events: deque[Event] = deque(maxlen=capacity)
        self._count = 0

    def record(self, kind: int, node: Noted, via: int, cause: object, home: object = None) -> int:
        """Note what happened to `node`; return the number of the event.

        Args:
            kind: one of the constants of this module.
            node: to whom.
            via: number of the event that this one follows from, -1 if none.
            cause: what it goes back to; of a failure the name of the error's class.
            home: of the history that `via` is in; None: this one.
        """
        number = self._count
        self._count += 1
        if self._events.maxlen:
            event = (number, kind, node.function, node.table_key, node.version, via, cause, self._now_s(), home)
            self._events.append(event)
        return number

    def _now_s(self) -> float:
        """The time by which events are dated. A clock that fails is reported, and the system's stands for it."""
        if self.clock is not None:
            try:
                return self.clock()
            except Exception:
                logger.exception("the clock of a graph's events has failed")
        return _system_clock()

    def invalidation_of(self, node: Noted) -> tuple[int, Any] | None:
        """Return number and cause of the event by which `node` has become out of date, if it is not long ago."""
        for event in islice(reversed(self._events), MAX_SEARCHED):
            if event[1] == OUT_OF_DATE and event[3] is node.table_key and event[2] is node.function:
                return event[0], event[6]
        return None

    def event(self, number: int) -> Event | None:
        """Return the event of that number, or None if it is forgotten."""
        place = number - self._count + len(self._events)
        return self._events[place] if 0 <= place < len(self._events) else None

    def events_of(self, function: object, table_key: object) -> list[Event]:
        """Return the events of one table key of a compute function, oldest first."""
        return [event for event in list(self._events) if event[2] is function and event[3] == table_key]

    def events(self) -> list[Event]:
        """Return what is kept, oldest first."""
        return list(self._events)

    def clear(self) -> None:
        """Forget all."""
        self._events.clear()
