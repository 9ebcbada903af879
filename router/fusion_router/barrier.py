"""The freshness barrier: a command returns when no replica anywhere serves what depended on the old data.

A diffusing computation after Dijkstra and Scholten ("Termination detection for diffusing computations", 1980). The
command's shard is the root. A message of a barrier is an invalidation request to the owner of a key, or a barrier mark
behind the invalidations on a session; each is answered once. A process that is reached for the first time is *engaged*:
it passes the barrier on to its own subscribers and answers when they have all answered. A process that is engaged
already answers a mark at once, since whatever it passes on counts for its engagement; so two shards that subscribe to
each other never wait for each other. Such an answer says so: it ends this barrier's wait, but confirms nothing to
others. A request comes from the root, for which nobody waits, and is in any case answered when all is settled.

A barrier is passed on to every subscriber that *owes* a confirmation. An invalidation is owed until a later mark is
answered, whatever caused it: a plain one may have taken the very computed this command would have reached, and still be
on its way. A subscription that was given up is owed too: the subscriber has invalidated its replica by itself (evicted
it, lost the carrier, ...) and what it told its own subscribers may be on its way, while we have no more to tell it.

A subscriber that stays silent is given one read lease, after which it cannot serve its replicas either, and is dropped.
So is whoever subscribed to the process before this one, under whose name it was restarted: for one read lease after
such a start, barriers wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable
from types import TracebackType
from typing import Any, Protocol, Self

from fusion_cluster.errors import InvariantViolation
from fusion_cluster.runtime import SYSTEM, Runtime

logger = logging.getLogger(__name__)

Answer = Callable[[bool], None]
"""Answers a message of a barrier: True when all that was owed is settled, False when others wait for some of it."""

PATIENCE = 1.4
"""For how many read leases a silent subscriber is waited for. One for itself; a third, the time between two pings, for
those that subscribe to it: it may have told them until then that it is there, after it last told us. And clocks of two
hosts differ a little."""


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
    """What one subscriber owes and has confirmed: invalidations and given up subscriptions, confirmed by barriers.

    Attributes:
        session: to the subscriber.
        owed: how many there have been.
        pending: barrier → for each of its marks that is not answered: what was owed before it, and when it was sent.
    """

    __slots__ = ("_confirmed", "owed", "pending", "session")

    def __init__(self, session: SubscribedSession) -> None:
        self.session = session
        self.owed = 0
        self._confirmed = 0
        self.pending: dict[int, deque[tuple[int, float]]] = {}

    def owe(self) -> None:
        """Note one more invalidation on its way, or one more subscription given up."""
        self.owed += 1

    @property
    def is_owing(self) -> bool:
        """Something is not known to have been applied over there, and beyond."""
        return self.owed > self._confirmed

    def answer(self, barrier: int, *, confirms: bool) -> bool:
        """Take the answer to one mark of a barrier; False if none was awaited."""
        marks = self.pending.get(barrier)
        if not marks:
            return False
        owed, _ = marks.popleft()
        if confirms:
            self._confirmed = max(self._confirmed, owed)
        if not marks:
            del self.pending[barrier]
        return True


class _Engagement:
    """This process's part in one barrier: how many answers it waits for, and what it does when they are there."""

    __slots__ = ("confirms", "deficit", "marked", "waiting")

    def __init__(self, on_settled: Answer) -> None:
        self.deficit = 0
        self.confirms = True
        # Who is told when everything is settled: whoever engaged this process, and requests that came since.
        self.waiting = [on_settled]
        # What each subscriber owed when this barrier was last passed on to it: only more is worth another mark.
        self.marked: dict[Confirmations, int] = {}


class Barrier:
    """A barrier that this process has begun: its root's handle.

    Await it to wait until no replica anywhere serves what depended on the old data. The block of its `with` holds it
    open: what is invalidated here, and told to owners, belongs inside.

    >>> with barriers.begin() as barrier:
    ...     invalidate(keys)
    ...     for owner in owners:
    ...         barrier.told()
    ...         tell(owner, barrier)  # calls barrier.answered() when the owner has answered
    >>> await barrier

    Attributes:
        number: names it in messages.
        settled: done when everything is settled; may be failed by whoever knows that it never will be.
    """

    __slots__ = ("_barriers", "number", "settled")

    def __init__(self, barriers: Barriers, number: int, settled: asyncio.Future[None]) -> None:
        self._barriers = barriers
        self.number = number
        self.settled = settled

    def told(self, count: int = 1) -> None:
        """Note requests to owners that go out: each one is to be answered once."""
        self._barriers.told(self.number, count)

    def answered(self, count: int = 1) -> None:
        """Note that owners have answered."""
        self._barriers.answered(self.number, count)

    def invalidated_more(self) -> None:
        """Pass it on once more: more has become out of date here."""
        self._barriers.pass_on(self.number)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._barriers.pass_on(self.number)
        self._barriers.answered(self.number, 1)

    def __await__(self) -> Generator[Any, None, None]:
        return self.settled.__await__()


class Barriers:
    """The barriers that this process takes part in.

    Args:
        read_lease_s: how long a subscriber may serve replicas without hearing from us.
        succeeds: this process takes the place of one that died, which may have subscribers that we do not know.
        runtime: the clock of the leases, and the numbers of barriers.

    Attributes:
        read_lease_s: as given.
    """

    def __init__(self, *, read_lease_s: float, succeeds: bool = False, runtime: Runtime = SYSTEM) -> None:
        self._clock = runtime.clock.monotonic
        self._entropy = runtime.entropy
        self.read_lease_s = read_lease_s
        self._patience_s = read_lease_s * PATIENCE
        # Until then a predecessor's subscribers may serve its replicas.
        self._quiet_until_s = self._clock() + self._patience_s if succeeds else 0.0
        self._engagements: dict[int, _Engagement] = {}
        # In the order in which they came: barriers are passed on in the same one by every run of a simulation.
        self._subscribers: dict[Confirmations, None] = {}
        self._watch: asyncio.TimerHandle | None = None
        self._is_closed = False

    def add(self, subscriber: Confirmations) -> None:
        """A session was opened: barriers reach it from now on."""
        self._subscribers[subscriber] = None

    def remove(self, subscriber: Confirmations, *, has_left: bool = False) -> None:
        """A session is lost for good.

        Args:
            subscriber: whose; until its read lease has run out it may serve its replicas, and barriers wait for that.
            has_left: it has said that it serves them no more.
        """
        self._subscribers.pop(subscriber, None)
        lease_s = 0.0 if has_left else self._patience_s - subscriber.session.heard_s_ago
        if lease_s > 0:
            self._quiet_until_s = max(self._quiet_until_s, self._clock() + lease_s)
        pending, subscriber.pending = subscriber.pending, {}
        for barrier, marks in pending.items():
            if lease_s > 0:
                asyncio.get_running_loop().call_later(lease_s, self._answer_unless_closed, barrier, len(marks))
            else:
                self.answered(barrier, len(marks))

    def begin(self) -> Barrier:
        """Begin a barrier as its root. It is open until the handle's block has ended and all requests are answered."""
        number = self._entropy.bits(63) + 1
        settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def on_settled(_confirms: bool) -> None:
            if not settled.done():
                settled.set_result(None)

        self._engage(number, on_settled)
        return Barrier(self, number, settled)

    def told(self, barrier: int, count: int = 1) -> None:
        """Note requests of this barrier that go out."""
        engagement = self._engagements.get(barrier)
        if engagement is not None:
            engagement.deficit += count
        elif not self._is_closed:
            raise InvariantViolation(f"barrier {barrier:x} is over, and more are told of it")

    def reached(self, barrier: int, answer: Answer) -> None:
        """A barrier mark arrived, and the invalidations before it are applied here.

        Args:
            barrier: its number.
            answer: answers the message; called once.
        """
        if barrier in self._engagements:
            self.pass_on(barrier)
            answer(False)
            return
        self._engage(barrier, answer)
        self.pass_on(barrier)
        self.answered(barrier)

    def requested(self, barrier: int, answer: Answer) -> None:
        """An invalidation request of a barrier arrived, and is applied here; answered when all it did is settled.

        It waits for that also where this process is engaged already: it may be the very request that engaged it, made
        again because the session that was to carry the answer is lost. It can wait, for it comes from the root alone,
        and nobody waits for the root.

        Args:
            barrier: its number.
            answer: answers the request; called once.
        """
        engagement = self._engagements.get(barrier)
        if engagement is None:
            self.reached(barrier, answer)
        else:
            engagement.waiting.append(answer)
            self.pass_on(barrier)

    def pass_on(self, barrier: int) -> None:
        """Send a mark to each subscriber that owes more than when it got this barrier's last one.

        To be called again when more has become out of date here while this process takes part in the barrier. Nothing
        happens when the barrier is over.
        """
        engagement = self._engagements.get(barrier)
        if engagement is None:
            return
        has_passed = False
        for subscriber in self._subscribers:
            if subscriber.is_owing and engagement.marked.get(subscriber, -1) < subscriber.owed:
                engagement.marked[subscriber] = subscriber.owed
                has_passed = True
                engagement.deficit += 1
                subscriber.pending.setdefault(barrier, deque()).append((subscriber.owed, self._clock()))
                subscriber.session.send_barrier(barrier)
        if has_passed and self._watch is None:
            self._watch = asyncio.get_running_loop().call_later(self._patience_s / 4, self._drop_silent)

    def mark_answered(self, subscriber: Confirmations, barrier: int, *, confirms: bool) -> None:
        """A subscriber answered a barrier mark.

        Args:
            subscriber: who.
            barrier: whose mark.
            confirms: all that was owed before the mark is applied there and beyond; not only for this barrier.
        """
        if subscriber.answer(barrier, confirms=confirms):
            self.answered(barrier, confirms=confirms)

    def answered(self, barrier: int, count: int = 1, *, confirms: bool = True) -> None:
        """Messages of this barrier that we sent were answered."""
        engagement = self._engagements.get(barrier)
        if engagement is None:
            if self._is_closed:
                return
            raise InvariantViolation(f"barrier {barrier:x} was answered more often than it was sent")
        engagement.deficit -= count
        engagement.confirms = engagement.confirms and confirms
        if engagement.deficit == 0:
            del self._engagements[barrier]
            for answer in engagement.waiting:
                answer(engagement.confirms)

    def close(self) -> None:
        """Forget everything; what waits for a barrier is its waiter's to cancel."""
        if self._watch is not None:
            self._watch.cancel()
        self._is_closed = True
        self._engagements.clear()

    def _engage(self, barrier: int, on_settled: Answer) -> _Engagement:
        """Take part, with a deficit of one that keeps it open until everything has been sent."""
        engagement = self._engagements[barrier] = _Engagement(on_settled)
        engagement.deficit = 1
        if self._quiet_until_s:
            self._stay_quiet(barrier, engagement)
        return engagement

    def _stay_quiet(self, barrier: int, engagement: _Engagement) -> None:
        quiet_s = self._quiet_until_s - self._clock()
        if quiet_s <= 0:
            self._quiet_until_s = 0.0
            return
        engagement.deficit += 1
        asyncio.get_running_loop().call_later(quiet_s, self._answer_unless_closed, barrier, 1)

    def _answer_unless_closed(self, barrier: int, count: int) -> None:
        if barrier in self._engagements:
            self.answered(barrier, count)

    def _drop_silent(self) -> None:
        """Drop the subscribers that have neither answered nor, for a read lease, been heard."""
        loop = asyncio.get_running_loop()
        waiting = [subscriber for subscriber in self._subscribers if subscriber.pending]
        for subscriber in _overdue(waiting, self._clock(), self._patience_s):
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
