"""The life of a member, as a table for its coordinator: the events allowed in each state, and the state that follows.

1.  A member waits until its start is ordered. Then it is being started until it serves.
2.  A member that dies before it serves waits for a moment, and is ordered again. So does a member that cannot serve.
3.  A member that has never served and cannot start has failed. It is not ordered again: the launch has failed with it.
4.  A process asks for its epoch first. A process that asks while another incarnation serves is its successor: the older
    incarnation is over from then on, although its death is reported later.
5.  The death of an incarnation that served is followed by a start at once.
6.  Once the cluster stops, no start is ordered any more, whatever happens.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from fusion_cluster.errors import LocalProtocolError
from fusion_cluster.transitions import next_state


class Life(IntEnum):
    """States of a member."""

    WAITING = 0
    STARTING = 1
    UP = 2
    REPLACED = 3
    FAILED = 4
    STOPPING = 5
    STOPPED = 6


class LifeEvent(IntEnum):
    """Events in the life of a member."""

    ORDER = 0
    JOIN = 1
    SERVE = 2
    DIE = 3
    FAIL = 4
    GIVE_UP = 5
    STOP = 6
    END = 7


_OVER: Final = (LifeEvent.JOIN, LifeEvent.SERVE, LifeEvent.DIE, LifeEvent.FAIL)
"""Late events, which change nothing."""

LIFE: Final[Mapping[Life, Mapping[LifeEvent, Life]]] = {
    Life.WAITING: {
        LifeEvent.ORDER: Life.STARTING,
        LifeEvent.JOIN: Life.WAITING,
        LifeEvent.GIVE_UP: Life.FAILED,
        LifeEvent.STOP: Life.STOPPING,
    },
    Life.STARTING: {
        LifeEvent.JOIN: Life.STARTING,
        LifeEvent.SERVE: Life.UP,
        LifeEvent.DIE: Life.WAITING,
        LifeEvent.FAIL: Life.WAITING,
        LifeEvent.GIVE_UP: Life.FAILED,
        LifeEvent.STOP: Life.STOPPING,
    },
    Life.UP: {
        LifeEvent.JOIN: Life.REPLACED,
        LifeEvent.DIE: Life.STARTING,
        LifeEvent.STOP: Life.STOPPING,
    },
    Life.REPLACED: {
        LifeEvent.JOIN: Life.REPLACED,
        LifeEvent.DIE: Life.STARTING,
        LifeEvent.STOP: Life.STOPPING,
    },
    Life.FAILED: {
        **dict.fromkeys(_OVER, Life.FAILED),
        LifeEvent.STOP: Life.STOPPING,
    },
    Life.STOPPING: {
        **dict.fromkeys(_OVER, Life.STOPPING),
        LifeEvent.END: Life.STOPPED,
    },
    Life.STOPPED: dict.fromkeys(_OVER, Life.STOPPED),
}


def next_life(state: Life, event: LifeEvent) -> Life:
    """The state that an event leads to.

    Raises:
        LocalProtocolError: the table does not allow the event in this state: the caller has broken its obligations.
    """
    return next_state(LIFE, event, state, LocalProtocolError)
