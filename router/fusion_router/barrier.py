"""The freshness barrier: a command returns when no replica anywhere serves what depended on the old data.

A diffusing computation after Dijkstra and Scholten ("Termination detection for diffusing computations", 1980). The
command's shard is the root. A message of a barrier is an invalidation request to the owner of a key, or a barrier mark
behind the invalidations on a session; each is answered once. A process that is reached for the first time is *engaged*:
it passes the barrier on to its own subscribers and answers when they have all answered. A process that is engaged
already answers at once, since whatever it passes on counts for its engagement; so two shards that subscribe to each
other never wait for each other.

A barrier is passed on to every subscriber with invalidations that it has not yet confirmed, whatever caused them: an
earlier, plain invalidation may have taken the very computed this command would have reached and still be on its way.

A subscriber that stays silent is given one read lease, after which it cannot serve its replicas either, and is dropped.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from fusion_cluster.errors import InvariantViolation

logger = logging.getLogger(__name__)

OnSettled = Callable[[], None]

DRIFT = 1.2
"""How much longer than a read lease a silent subscriber is waited for: clocks of two hosts differ a little."""


class SubscribedSession(Protocol):
    """What a barrier needs of a served session."""

    @property
    def heard_s_ago(self) -> float:
        """Seconds since the last frame from the subscriber."""
        ...

    def send_barrier(self, barrier: int) -> None:
        """Put a barrier mark behind the invalidations sent so far."""
        ...

    def drop(self) -> None:
        """End the session for good: its subscriber must start anew."""
        ...


class Confirmations:
    """What one subscriber has been sent and has confirmed: invalidations are counted, barriers confirm them."""

    __slots__ = ("_confirmed", "_sent", "pending", "session")

    def __init__(self, session: SubscribedSession) -> None:
        self.session = session
        self._sent = 0
        self._confirmed = 0
        # Barrier -> for each of its marks on this session that is not answered: the count of invalidations before it,
        # and when it was sent.
        self.pending: dict[int, deque[tuple[int, float]]] = {}

    def invalidation_sent(self) -> None:
        """Note one more invalidation on its way."""
        self._sent += 1

    @property
    def is_dirty(self) -> bool:
        """Some invalidation is not known to have been applied over there."""
        return self._sent > self._confirmed

    def mark(self, barrier: int, now_s: float) -> None:
        """Send a barrier mark."""
        self.pending.setdefault(barrier, deque()).append((self._sent, now_s))
        self.session.send_barrier(barrier)

    def settle(self, barrier: int) -> bool:
        """Take the answer to one mark of a barrier; False if none was awaited."""
        marks = self.pending.get(barrier)
        if not marks:
            return False
        self._confirmed = max(self._confirmed, marks.popleft()[0])
        if not marks:
            del self.pending[barrier]
        return True


class _Engagement:
    """This process's part in one barrier: how many answers it waits for, and what it does when they are there."""

    __slots__ = ("deficit", "on_settled")

    def __init__(self, on_settled: OnSettled) -> None:
        self.deficit = 0
        self.on_settled = on_settled


class Barriers:
    """The barriers that this process takes part in.

    Args:
        read_lease_s: how long a subscriber may serve replicas without hearing from us.
    """

    def __init__(self, *, read_lease_s: float) -> None:
        self._patience_s = read_lease_s * DRIFT
        self._engagements: dict[int, _Engagement] = {}
        self._subscribers: set[Confirmations] = set()
        self._watch: asyncio.TimerHandle | None = None

    def add(self, subscriber: Confirmations) -> None:
        """A session was opened: barriers reach it from now on."""
        self._subscribers.add(subscriber)

    def remove(self, subscriber: Confirmations) -> None:
        """A session is lost for good: its subscriber can serve none of its replicas any more."""
        self._subscribers.discard(subscriber)
        pending, subscriber.pending = subscriber.pending, {}
        for barrier, marks in pending.items():
            self.answered(barrier, len(marks))

    def start(self, apply: Callable[[int], int], on_settled: OnSettled) -> None:
        """Begin a barrier as its root.

        Args:
            apply: invalidates here and sends requests to other owners; given the barrier, returns how many were sent.
            on_settled: called once, when everything is settled everywhere.
        """
        barrier = secrets.randbits(63) + 1
        engagement = self._engagements[barrier] = _Engagement(on_settled)
        engagement.deficit += 1  # keeps it open while it is being sent
        engagement.deficit += apply(barrier)
        self._pass_on(barrier, engagement)
        self.answered(barrier)

    def reached(self, barrier: int, on_settled: OnSettled) -> None:
        """A message of a barrier arrived, and its invalidations are applied here.

        Args:
            barrier: its number.
            on_settled: answers the message; called once.
        """
        engagement = self._engagements.get(barrier)
        if engagement is not None:
            self._pass_on(barrier, engagement)
            on_settled()
            return
        engagement = self._engagements[barrier] = _Engagement(on_settled)
        engagement.deficit += 1
        self._pass_on(barrier, engagement)
        self.answered(barrier)

    def confirmed(self, subscriber: Confirmations, barrier: int) -> None:
        """A subscriber answered a barrier mark."""
        if subscriber.settle(barrier):
            self.answered(barrier)

    def answered(self, barrier: int, count: int = 1) -> None:
        """Messages of this barrier that we sent were answered."""
        engagement = self._engagements.get(barrier)
        if engagement is None:
            raise InvariantViolation(f"barrier {barrier:x} was answered more often than it was sent")
        engagement.deficit -= count
        if engagement.deficit == 0:
            del self._engagements[barrier]
            engagement.on_settled()

    def close(self) -> None:
        """Forget everything; what waits for a barrier is its waiter's to cancel."""
        if self._watch is not None:
            self._watch.cancel()
        self._engagements.clear()

    def _pass_on(self, barrier: int, engagement: _Engagement) -> None:
        now_s = 0.0
        for subscriber in self._subscribers:
            if subscriber.is_dirty:
                now_s = now_s or asyncio.get_running_loop().time()
                engagement.deficit += 1
                subscriber.mark(barrier, now_s)
        if now_s and self._watch is None:
            self._watch = asyncio.get_running_loop().call_later(self._patience_s / 4, self._drop_silent)

    def _drop_silent(self) -> None:
        """Drop the subscribers that have neither answered nor, for a read lease, been heard."""
        loop = asyncio.get_running_loop()
        waiting = [subscriber for subscriber in self._subscribers if subscriber.pending]
        for subscriber in _overdue(waiting, loop.time(), self._patience_s):
            logger.warning("a subscriber did not confirm invalidations within its read lease and is dropped")
            subscriber.session.drop()
            self.remove(subscriber)
        still_waiting = any(subscriber.pending for subscriber in self._subscribers)
        self._watch = loop.call_later(self._patience_s / 4, self._drop_silent) if still_waiting else None


def _overdue(waiting: Iterable[Confirmations], now_s: float, patience_s: float) -> list[Confirmations]:
    """Who is waited for longer than a read lease and silent, or longer than three and heard but never answering."""
    overdue = []
    for subscriber in waiting:
        waited_s = now_s - min(marks[0][1] for marks in subscriber.pending.values())
        is_silent = subscriber.session.heard_s_ago > patience_s
        if waited_s > patience_s and (is_silent or waited_s > 3 * patience_s):
            overdue.append(subscriber)
    return overdue
