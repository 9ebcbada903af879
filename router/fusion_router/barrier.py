"""The freshness barrier: a command returns when no replica serves values that depended on the old data.

A diffusing computation after Dijkstra and Scholten ("Termination detection for diffusing computations", 1980). The
command's shard is the root. A message of a barrier is an invalidation request to the owner of a key, or a barrier mark
behind the invalidations on a session; each is answered once. A process that is reached for the first time is *engaged*:
it passes the barrier on to its own subscribers and answers when they have all answered. A process that is engaged
already answers a mark at once, since everything it passes on counts for its engagement; so two shards that subscribe to
each other never wait for each other. Such an answer is marked: it ends this barrier's wait, but confirms nothing to
other barriers. A request comes from the root, for which no process waits, so it is always answered only when everything
is settled.

A barrier is passed on to every subscriber that *owes* a confirmation. An invalidation is owed until a later mark is
answered, whatever its cause: a plain one may have reached the same computed as this command, and still be on its way. A
subscription that was given up is owed, too: the subscriber has invalidated its replica by itself (evicted it, lost the
carrier, ...), and its messages to its own subscribers may be on their way, while we have no more to send to it.

A subscriber that stays silent is given one read lease, after which it cannot serve its replicas either, and is dropped.
The same holds for subscribers of a predecessor of this process, which ran under the same name: after a restart,
barriers wait for one read lease.
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
"""Answers a message of a barrier: True when everything owed is settled, False when others wait for some of it."""

PATIENCE = 1.4
"""How many read leases to wait for a silent subscriber. One for itself; a third, the time between two pings, for its
own subscribers: it may have pinged them up to that long after it last pinged us. The rest covers clocks of two
machines, which differ a little."""


class SubscribedSession(Protocol):
    """A served session as a barrier uses it."""

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
    """The debts of one subscriber: invalidations and given up subscriptions that it owes until barriers confirm them.

    Attributes:
        session: the session to the subscriber.
        owed: how many debts there have been.
        pending: barrier → for each unanswered mark of it: the value of `owed` before it, and when it was sent.
    """

    __slots__ = ("_confirmed", "owed", "pending", "session")

    def __init__(self, session: SubscribedSession) -> None:
        self.session = session
        self.owed = 0
        self._confirmed = 0
        self.pending: dict[int, deque[tuple[int, float]]] = {}

    def owe(self) -> None:
        """Note one more invalidation on its way, or one more subscription that was given up."""
        self.owed += 1

    @property
    def is_owing(self) -> bool:
        """Whether a debt is not confirmed yet: not known to be applied there and beyond."""
        return self.owed > self._confirmed

    def answer(self, barrier: int, *, confirms: bool) -> bool:
        """Take the answer to one mark of a barrier; return False if none was awaited."""
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
    """This process's part in one barrier: how many answers it waits for, and whom it answers then."""

    __slots__ = ("confirms", "deficit", "marked", "waiting")

    def __init__(self, on_settled: Answer) -> None:
        self.deficit = 0
        self.confirms = True
        # Answered when everything is settled: the message that engaged this process, and requests that came since.
        self.waiting = [on_settled]
        # `owed` of each subscriber when this barrier was last passed on to it: only a higher value needs another mark.
        self.marked: dict[Confirmations, int] = {}


class Barrier:
    """A barrier that this process has begun: its root's handle.

    Await it to wait until no replica serves values that depended on the old data. The block of its `with` holds it
    open: invalidations made here, and requests to owners, belong inside.

    >>> with barriers.begin() as barrier:
    ...     invalidate(keys)
    ...     for owner in owners:
    ...         barrier.told()
    ...         tell(owner, barrier)  # calls barrier.answered() when the owner has answered
    >>> await barrier

    Attributes:
        number: its name in messages.
        settled: done when everything is settled; may be failed by code that knows that it never will be.
    """

    __slots__ = ("_barriers", "number", "settled")

    def __init__(self, barriers: Barriers, number: int, settled: asyncio.Future[None]) -> None:
        self._barriers = barriers
        self.number = number
        self.settled = settled

    def told(self, count: int = 1) -> None:
        """Note requests sent to owners: each one has to be answered once."""
        self._barriers.told(self.number, count)

    def answered(self, count: int = 1) -> None:
        """Note that owners have answered."""
        self._barriers.answered(self.number, count)

    def invalidated_more(self) -> None:
        """Pass it on again, because more has become out of date here."""
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
        succeeds: this process replaces one that died, which may have subscribers that we do not know.
        runtime: gives the clock of the leases, and the numbers of barriers.

    Attributes:
        read_lease_s: as given.
    """

    def __init__(self, *, read_lease_s: float, succeeds: bool = False, runtime: Runtime = SYSTEM) -> None:
        self._clock = runtime.clock.monotonic
        self._entropy = runtime.entropy
        self.read_lease_s = read_lease_s
        self._patience_s = read_lease_s * PATIENCE
        # Until this time a predecessor's subscribers may serve its replicas.
        self._quiet_until_s = self._clock() + self._patience_s if succeeds else 0.0
        self._engagements: dict[int, _Engagement] = {}
        # In the order of arrival: so every run of a simulation passes barriers on in the same order.
        self._subscribers: dict[Confirmations, None] = {}
        self._watch: asyncio.TimerHandle | None = None
        self._is_closed = False

    def add(self, subscriber: Confirmations) -> None:
        """Add a session that was opened: barriers reach it from now on."""
        self._subscribers[subscriber] = None

    def remove(self, subscriber: Confirmations, *, has_left: bool = False) -> None:
        """Remove a session that is lost for good.

        Args:
            subscriber: the subscriber of the session; until its read lease has run out it may serve its replicas, and
                barriers wait for that.
            has_left: it has announced that it does not serve them any more.
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

    @property
    def are_needed(self) -> bool:
        """Whether somebody may serve values that depend on what has been invalidated here by now."""
        return bool(self._quiet_until_s) or any(subscriber.is_owing for subscriber in self._subscribers)

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
        """Note requests of this barrier that were sent."""
        engagement = self._engagements.get(barrier)
        if engagement is not None:
            engagement.deficit += count
        elif not self._is_closed:
            raise InvariantViolation(f"barrier {barrier:x} is over, and more requests of it are sent")

    def reached(self, barrier: int, answer: Answer) -> None:
        """Take a barrier mark that arrived; the invalidations before it are applied here.

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
        """Take an invalidation request that is applied here; it is answered when all its effects are settled.

        It waits for that also if this process is engaged already: it may be the request that engaged it, sent again
        because the session for the answer was lost. It can wait, because it comes from the root, and no process waits
        for the root.

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
        """Send a mark to each subscriber that owes more than when it got this barrier's last mark.

        Call it again when more has become out of date here while this process takes part in the barrier. It does
        nothing when the barrier is over.
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
        """Take a subscriber's answer to a barrier mark.

        Args:
            subscriber: the subscriber.
            barrier: the barrier of the mark.
            confirms: everything owed before the mark is applied there and beyond, for all barriers.
        """
        if subscriber.answer(barrier, confirms=confirms):
            self.answered(barrier, confirms=confirms)

    def answered(self, barrier: int, count: int = 1, *, confirms: bool = True) -> None:
        """Note that messages of this barrier that we sent were answered."""
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
        """Forget everything; whatever waits for a barrier must be cancelled by its owner."""
        if self._watch is not None:
            self._watch.cancel()
        self._is_closed = True
        self._engagements.clear()

    def _engage(self, barrier: int, on_settled: Answer) -> _Engagement:
        """Take part, with an initial deficit of one that keeps it open until everything has been sent."""
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
        """Drop the subscribers that have not answered and were not heard for a read lease."""
        loop = asyncio.get_running_loop()
        waiting = [subscriber for subscriber in self._subscribers if subscriber.pending]
        for subscriber in _overdue(waiting, self._clock(), self._patience_s):
            logger.warning("a subscriber did not confirm invalidations within its read lease and is dropped")
            subscriber.session.drop()
            self.remove(subscriber)
        still_waiting = any(subscriber.pending for subscriber in self._subscribers)
        self._watch = loop.call_later(self._patience_s / 4, self._drop_silent) if still_waiting else None


def _overdue(waiting: Iterable[Confirmations], now_s: float, patience_s: float) -> list[Confirmations]:
    """Return overdue subscribers: silent for a read lease, or heard but without an answer for three."""
    overdue = []
    for subscriber in waiting:
        waited_s = now_s - min(marks[0][1] for marks in subscriber.pending.values())
        is_silent = subscriber.session.heard_s_ago > patience_s
        if waited_s > patience_s and (is_silent or waited_s > 3 * patience_s):
            overdue.append(subscriber)
    return overdue
