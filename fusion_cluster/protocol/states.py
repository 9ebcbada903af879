"""The rules of a session, as tables: the events allowed in each state, and the state that follows (see `transitions`).

The caller's end of the link (`CALLER_LINK`):
1.  Nothing is sent before the owner's Challenge; the Hello answers it, and the Welcome opens the session.
2.  Challenge and Welcome come once for each carrier; results, invalidations, barriers and pongs only while open.
3.  A GoAway with an error refuses the handshake, or voids the session that was open. Without an error the owner is
    leaving: no new calls are sent, the results of those in flight are still taken.
4.  When the carrier is gone the session is detached. It may be attached to another carrier, any number of times.

A call at the caller's end (`CALLER_CALL`):
5.  It waits until the session is open, and is sent once for each carrier.
6.  When the carrier is lost a call that was sent is unsure: it is sent again when the session is resumed, under the
    same id, and may get its result before that. A read that was answered stays so, in doubt: its replica may be served
    again once both ends have found that they hold the same reads. It ends when that takes too long.
7.  When the session itself is lost, an unsure read waits to be sent again; an unsure command has ended with an unknown
    outcome, and an answered read has ended.
8.  A read that gets a result is answered: subscribed, until it is invalidated or given up. All else ends with its
    result.
9.  An invalidation may come before the result: it is reported then, and the result ends the read.
9a. A read whose callers have more time than it was sent with is sent again, under a new id.

The owner's end of the link (`OWNER_LINK`):
10. A session is attached to at most one carrier. A new carrier that proves itself takes it over from the old one.
11. A lost session never comes back.

A call at the owner's end (`OWNER_CALL`):
12. A read runs, and is then subscribed, until it is invalidated or unsubscribed. An invalidation while it runs is
    sent at once: the result ends it then.
13. A request (a command, or an invalidation request) runs. Its result is kept, and sent again over each new carrier,
    until the caller has confirmed it.
14. A call that the caller cancels or unsubscribes is forgotten at once; its results and invalidations are dropped.
15. A call that comes again is known by its id: it is not run again. A subscribed read that comes again has lost its
    result with an earlier carrier: it is run again, as the only exception.
16. When the carrier is lost, results and invalidations that it did not take wait for the next one.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from fusion_cluster.transitions import turned


class CallerLink(IntEnum):
    """States of the link at the caller's end."""

    DETACHED = 0
    AWAITING_CHALLENGE = 1
    AWAITING_WELCOME = 2
    OPEN = 3
    LEAVING = 4
    CLOSED = 5


class CallerLinkEvent(IntEnum):
    """Events of the link at the caller's end."""

    ATTACH = 0
    CHALLENGE = 1
    WELCOME = 2
    BATCH = 3
    GO_AWAY = 4
    REFUSAL = 5
    DETACH = 6
    CLOSE = 7


CALLER_LINK: Final[Mapping[CallerLink, Mapping[CallerLinkEvent, CallerLink]]] = {
    CallerLink.DETACHED: {
        CallerLinkEvent.ATTACH: CallerLink.AWAITING_CHALLENGE,
        CallerLinkEvent.DETACH: CallerLink.DETACHED,
        CallerLinkEvent.CLOSE: CallerLink.CLOSED,
    },
    CallerLink.AWAITING_CHALLENGE: {
        CallerLinkEvent.CHALLENGE: CallerLink.AWAITING_WELCOME,
        CallerLinkEvent.REFUSAL: CallerLink.DETACHED,
        CallerLinkEvent.DETACH: CallerLink.DETACHED,
        CallerLinkEvent.CLOSE: CallerLink.CLOSED,
    },
    CallerLink.AWAITING_WELCOME: {
        CallerLinkEvent.WELCOME: CallerLink.OPEN,
        CallerLinkEvent.REFUSAL: CallerLink.DETACHED,
        CallerLinkEvent.DETACH: CallerLink.DETACHED,
        CallerLinkEvent.CLOSE: CallerLink.CLOSED,
    },
    CallerLink.OPEN: {
        CallerLinkEvent.BATCH: CallerLink.OPEN,
        CallerLinkEvent.GO_AWAY: CallerLink.LEAVING,
        CallerLinkEvent.REFUSAL: CallerLink.DETACHED,
        CallerLinkEvent.DETACH: CallerLink.DETACHED,
        CallerLinkEvent.CLOSE: CallerLink.CLOSED,
    },
    CallerLink.LEAVING: {
        CallerLinkEvent.BATCH: CallerLink.LEAVING,
        CallerLinkEvent.GO_AWAY: CallerLink.LEAVING,
        CallerLinkEvent.REFUSAL: CallerLink.DETACHED,
        CallerLinkEvent.DETACH: CallerLink.DETACHED,
        CallerLinkEvent.CLOSE: CallerLink.CLOSED,
    },
    CallerLink.CLOSED: {
        CallerLinkEvent.CLOSE: CallerLink.CLOSED,
    },
}
ON_CALLER_LINK: Final = turned(CALLER_LINK)


class CallerCall(IntEnum):
    """States of a call at the caller's end."""

    WAITING = 0
    SENT = 1
    UNSURE = 2
    ANSWERED = 3
    ENDED = 4


class CallerCallEvent(IntEnum):
    """Events of a call at the caller's end; RESULT belongs to a read, OUTCOME to a request."""

    SEND = 0
    RESULT = 1
    OUTCOME = 2
    INVALIDATION = 3
    DETACH = 4
    LOSS = 5
    RENEWAL = 6
    END = 7


CALLER_CALL: Final[Mapping[CallerCall, Mapping[CallerCallEvent, CallerCall]]] = {
    CallerCall.WAITING: {
        CallerCallEvent.SEND: CallerCall.SENT,
        CallerCallEvent.DETACH: CallerCall.WAITING,
        CallerCallEvent.LOSS: CallerCall.WAITING,
        CallerCallEvent.END: CallerCall.ENDED,
    },
    CallerCall.SENT: {
        CallerCallEvent.RESULT: CallerCall.ANSWERED,
        CallerCallEvent.OUTCOME: CallerCall.ENDED,
        CallerCallEvent.INVALIDATION: CallerCall.SENT,
        CallerCallEvent.DETACH: CallerCall.UNSURE,
        CallerCallEvent.RENEWAL: CallerCall.WAITING,
        CallerCallEvent.END: CallerCall.ENDED,
    },
    CallerCall.UNSURE: {
        CallerCallEvent.SEND: CallerCall.SENT,
        CallerCallEvent.RESULT: CallerCall.ANSWERED,
        CallerCallEvent.OUTCOME: CallerCall.ENDED,
        CallerCallEvent.INVALIDATION: CallerCall.UNSURE,
        CallerCallEvent.DETACH: CallerCall.UNSURE,
        CallerCallEvent.LOSS: CallerCall.WAITING,
        CallerCallEvent.RENEWAL: CallerCall.WAITING,
        CallerCallEvent.END: CallerCall.ENDED,
    },
    CallerCall.ANSWERED: {
        CallerCallEvent.INVALIDATION: CallerCall.ENDED,
        CallerCallEvent.DETACH: CallerCall.ANSWERED,
        CallerCallEvent.LOSS: CallerCall.ENDED,
        CallerCallEvent.END: CallerCall.ENDED,
    },
    CallerCall.ENDED: {},
}
ON_CALLER_CALL: Final = turned(CALLER_CALL)


class OwnerLink(IntEnum):
    """States of a session at the owner's end."""

    DETACHED = 0
    ATTACHED = 1
    LOST = 2


class OwnerLinkEvent(IntEnum):
    """Events of a session at the owner's end."""

    ATTACH = 0
    BATCH = 1
    DETACH = 2
    LOSE = 3


OWNER_LINK: Final[Mapping[OwnerLink, Mapping[OwnerLinkEvent, OwnerLink]]] = {
    OwnerLink.DETACHED: {
        OwnerLinkEvent.ATTACH: OwnerLink.ATTACHED,
        OwnerLinkEvent.LOSE: OwnerLink.LOST,
    },
    OwnerLink.ATTACHED: {
        OwnerLinkEvent.BATCH: OwnerLink.ATTACHED,
        OwnerLinkEvent.DETACH: OwnerLink.DETACHED,
        OwnerLinkEvent.LOSE: OwnerLink.LOST,
    },
    OwnerLink.LOST: {
        OwnerLinkEvent.LOSE: OwnerLink.LOST,
    },
}


class OwnerCall(IntEnum):
    """States of a call at the owner's end."""

    RUNNING = 0
    OUTDATED = 1
    SUBSCRIBED = 2
    REQUESTED = 3
    KEPT = 4
    FORGOTTEN = 5


class OwnerCallEvent(IntEnum):
    """Events of a call at the owner's end; RESULT promises a report of its invalidation, LAST_RESULT does not.

    REPEAT: it comes again, because an earlier carrier has lost its result.
    """

    RESULT = 0
    LAST_RESULT = 1
    INVALIDATION = 2
    MOVE = 3
    LEAVE = 4
    CONFIRM = 5
    REPEAT = 6


OWNER_CALL: Final[Mapping[OwnerCall, Mapping[OwnerCallEvent, OwnerCall]]] = {
    OwnerCall.RUNNING: {
        OwnerCallEvent.RESULT: OwnerCall.SUBSCRIBED,
        OwnerCallEvent.LAST_RESULT: OwnerCall.FORGOTTEN,
        OwnerCallEvent.INVALIDATION: OwnerCall.OUTDATED,
        OwnerCallEvent.MOVE: OwnerCall.FORGOTTEN,
        OwnerCallEvent.LEAVE: OwnerCall.FORGOTTEN,
    },
    OwnerCall.OUTDATED: {
        OwnerCallEvent.RESULT: OwnerCall.FORGOTTEN,
        OwnerCallEvent.LAST_RESULT: OwnerCall.FORGOTTEN,
        OwnerCallEvent.INVALIDATION: OwnerCall.OUTDATED,
        OwnerCallEvent.MOVE: OwnerCall.FORGOTTEN,
        OwnerCallEvent.LEAVE: OwnerCall.FORGOTTEN,
    },
    OwnerCall.SUBSCRIBED: {
        OwnerCallEvent.INVALIDATION: OwnerCall.FORGOTTEN,
        OwnerCallEvent.LEAVE: OwnerCall.FORGOTTEN,
        OwnerCallEvent.REPEAT: OwnerCall.RUNNING,
    },
    OwnerCall.REQUESTED: {
        OwnerCallEvent.RESULT: OwnerCall.KEPT,
        OwnerCallEvent.LAST_RESULT: OwnerCall.KEPT,
        OwnerCallEvent.MOVE: OwnerCall.FORGOTTEN,
        OwnerCallEvent.LEAVE: OwnerCall.FORGOTTEN,
    },
    OwnerCall.KEPT: {
        OwnerCallEvent.LEAVE: OwnerCall.FORGOTTEN,
        OwnerCallEvent.CONFIRM: OwnerCall.FORGOTTEN,
    },
    OwnerCall.FORGOTTEN: {},
}
ON_OWNER_CALL: Final = turned(OWNER_CALL)
