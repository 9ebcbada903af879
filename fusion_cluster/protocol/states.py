"""The rules of a session, as tables: what may happen in which state, and what comes of it.

The caller's end of the link (`CALLER_LINK`):
1.  Nothing is sent before the owner's Challenge; the Hello answers it, and the Welcome opens the session.
2.  Challenge and Welcome come once for each carrier; results, invalidations, barriers and pongs only while open.
3.  A GoAway with an error refuses the handshake, or voids the session that was open. Without an error the owner is
    leaving: no new calls are sent, the results of those in flight are still taken.
4.  When the carrier is gone the session is detached, and may be attached to another carrier, as often as need be.

A call at the caller's end (`CALLER_CALL`):
5.  It waits until the session is open, and is sent once for each carrier.
6.  When the carrier is lost a call that was sent is unsure: it is sent again when the session is resumed, under the
    same id, and may get its result before that. A read that was answered has ended: nothing proves its replica fresh.
7.  When the session itself is lost, an unsure read waits to be sent anew; an unsure command has ended, its outcome
    unknown.
8.  A read that gets a result is answered: subscribed, until it is invalidated or given up. All else ends with its
    result.
9.  An invalidation may come before the result: it is reported then, and the result ends the read.

The owner's end of the link (`OWNER_LINK`):
10. A session is attached to at most one carrier. A new carrier that proves itself takes it over from the old one.
11. A lost session comes back never.

A call at the owner's end (`OWNER_CALL`):
12. A read runs, and is then subscribed, until it is invalidated or unsubscribed. An invalidation while it runs is
    sent at once: the result ends it then.
13. A request (a command, or an invalidation request) runs, and its result is kept, and sent again over each new
    carrier, until the caller has confirmed it.
14. What the caller cancels or unsubscribes is forgotten at once; results and invalidations of forgotten calls are
    dropped.
15. A call that comes again is known by its id: it is not run again.
16. When the carrier is lost, reads whose results it took are forgotten: the caller trusts none of them any more, and
    asks again for those it never got. Results that it did not take wait for the next carrier.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final, TypeVar

from fusion_cluster.errors import ProtocolError

S = TypeVar("S", bound=IntEnum)
E = TypeVar("E", bound=IntEnum)


class CallerLink(IntEnum):
    """States of the link at the caller's end."""

    DETACHED = 0
    AWAITING_CHALLENGE = 1
    AWAITING_WELCOME = 2
    OPEN = 3
    LEAVING = 4
    CLOSED = 5


class CallerLinkEvent(IntEnum):
    """What happens to the link at the caller's end."""

    ATTACH = 0
    CHALLENGE = 1
    WELCOME = 2
    BATCH = 3
    GO_AWAY = 4
    REFUSAL = 5
    DETACH = 6
    CLOSE = 7


CALLER_LINK: Final[Mapping[CallerLinkEvent, Mapping[CallerLink, CallerLink]]] = {
    CallerLinkEvent.ATTACH: {CallerLink.DETACHED: CallerLink.AWAITING_CHALLENGE},
    CallerLinkEvent.CHALLENGE: {CallerLink.AWAITING_CHALLENGE: CallerLink.AWAITING_WELCOME},
    CallerLinkEvent.WELCOME: {CallerLink.AWAITING_WELCOME: CallerLink.OPEN},
    CallerLinkEvent.BATCH: {CallerLink.OPEN: CallerLink.OPEN, CallerLink.LEAVING: CallerLink.LEAVING},
    CallerLinkEvent.GO_AWAY: {CallerLink.OPEN: CallerLink.LEAVING, CallerLink.LEAVING: CallerLink.LEAVING},
    CallerLinkEvent.REFUSAL: {
        CallerLink.AWAITING_CHALLENGE: CallerLink.DETACHED,
        CallerLink.AWAITING_WELCOME: CallerLink.DETACHED,
        CallerLink.OPEN: CallerLink.DETACHED,
        CallerLink.LEAVING: CallerLink.DETACHED,
    },
    CallerLinkEvent.DETACH: {state: CallerLink.DETACHED for state in CallerLink if state is not CallerLink.CLOSED},
    CallerLinkEvent.CLOSE: dict.fromkeys(CallerLink, CallerLink.CLOSED),
}


class CallerCall(IntEnum):
    """States of a call at the caller's end."""

    WAITING = 0
    SENT = 1
    UNSURE = 2
    ANSWERED = 3
    ENDED = 4


class CallerCallEvent(IntEnum):
    """What happens to a call at the caller's end; RESULT is that of a read, OUTCOME that of a request."""

    SEND = 0
    RESULT = 1
    OUTCOME = 2
    INVALIDATION = 3
    DETACH = 4
    LOSS = 5
    END = 6


CALLER_CALL: Final[Mapping[CallerCallEvent, Mapping[CallerCall, CallerCall]]] = {
    CallerCallEvent.SEND: {CallerCall.WAITING: CallerCall.SENT, CallerCall.UNSURE: CallerCall.SENT},
    CallerCallEvent.RESULT: {CallerCall.SENT: CallerCall.ANSWERED, CallerCall.UNSURE: CallerCall.ANSWERED},
    CallerCallEvent.OUTCOME: {CallerCall.SENT: CallerCall.ENDED, CallerCall.UNSURE: CallerCall.ENDED},
    CallerCallEvent.INVALIDATION: {
        CallerCall.SENT: CallerCall.SENT,
        CallerCall.UNSURE: CallerCall.UNSURE,
        CallerCall.ANSWERED: CallerCall.ENDED,
    },
    CallerCallEvent.DETACH: {
        CallerCall.WAITING: CallerCall.WAITING,
        CallerCall.SENT: CallerCall.UNSURE,
        CallerCall.UNSURE: CallerCall.UNSURE,
        CallerCall.ANSWERED: CallerCall.ENDED,
    },
    CallerCallEvent.LOSS: {CallerCall.WAITING: CallerCall.WAITING, CallerCall.UNSURE: CallerCall.WAITING},
    CallerCallEvent.END: dict.fromkeys(CallerCall, CallerCall.ENDED),
}


class OwnerLink(IntEnum):
    """States of a session at the owner's end."""

    DETACHED = 0
    ATTACHED = 1
    LOST = 2


class OwnerLinkEvent(IntEnum):
    """What happens to a session at the owner's end."""

    ATTACH = 0
    BATCH = 1
    DETACH = 2
    LOSE = 3


OWNER_LINK: Final[Mapping[OwnerLinkEvent, Mapping[OwnerLink, OwnerLink]]] = {
    OwnerLinkEvent.ATTACH: {OwnerLink.DETACHED: OwnerLink.ATTACHED},
    OwnerLinkEvent.BATCH: {OwnerLink.ATTACHED: OwnerLink.ATTACHED},
    OwnerLinkEvent.DETACH: {OwnerLink.ATTACHED: OwnerLink.DETACHED},
    OwnerLinkEvent.LOSE: dict.fromkeys(OwnerLink, OwnerLink.LOST),
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
    """What happens to a call at the owner's end; RESULT promises to tell of an invalidation, LAST_RESULT does not."""

    RESULT = 0
    LAST_RESULT = 1
    INVALIDATION = 2
    MOVE = 3
    LEAVE = 4
    CONFIRM = 5


_FORGET_UNANSWERED: Final = {
    OwnerCall.RUNNING: OwnerCall.FORGOTTEN,
    OwnerCall.OUTDATED: OwnerCall.FORGOTTEN,
    OwnerCall.REQUESTED: OwnerCall.FORGOTTEN,
}

OWNER_CALL: Final[Mapping[OwnerCallEvent, Mapping[OwnerCall, OwnerCall]]] = {
    OwnerCallEvent.RESULT: {
        OwnerCall.RUNNING: OwnerCall.SUBSCRIBED,
        OwnerCall.OUTDATED: OwnerCall.FORGOTTEN,
        OwnerCall.REQUESTED: OwnerCall.KEPT,
    },
    OwnerCallEvent.LAST_RESULT: {
        OwnerCall.RUNNING: OwnerCall.FORGOTTEN,
        OwnerCall.OUTDATED: OwnerCall.FORGOTTEN,
        OwnerCall.REQUESTED: OwnerCall.KEPT,
    },
    OwnerCallEvent.INVALIDATION: {
        OwnerCall.RUNNING: OwnerCall.OUTDATED,
        OwnerCall.OUTDATED: OwnerCall.OUTDATED,
        OwnerCall.SUBSCRIBED: OwnerCall.FORGOTTEN,
    },
    OwnerCallEvent.MOVE: _FORGET_UNANSWERED,
    OwnerCallEvent.LEAVE: {
        **_FORGET_UNANSWERED,
        OwnerCall.SUBSCRIBED: OwnerCall.FORGOTTEN,
        OwnerCall.KEPT: OwnerCall.FORGOTTEN,
    },
    OwnerCallEvent.CONFIRM: {OwnerCall.KEPT: OwnerCall.FORGOTTEN},
}


def next_state(table: Mapping[E, Mapping[S, S]], event: E, state: S, error: type[ProtocolError]) -> S:
    """The state that an event leads to.

    Raises:
        ProtocolError: of the given class, when the table does not allow the event in this state.
    """
    following = table[event].get(state)
    if following is None:
        raise error(f"{event.name} is not allowed in state {type(state).__name__}.{state.name}")
    return following
