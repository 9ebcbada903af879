"""The dispatcher of a host: takes the events that are due from the outbox and calls their handlers.

All durable state is in the outbox: an event is deleted when all its handlers have succeeded, and an event whose host
dies before that is delivered again, by another host or its successor. The dispatcher itself holds only the events that
it delivers now. Their number is bounded: one task for each event, each of another key.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable
from typing import Final

from fusion_cluster.commands.time_limit import TimeLimits
from fusion_cluster.events.attempt import Deliver, attempt, judged, judged_abandoned
from fusion_cluster.events.claims import ClaimedEvent, Claims, Verdict
from fusion_cluster.events.options import EventOptions
from fusion_cluster.events.subscriptions import Subscriptions
from fusion_cluster.runtime import SYSTEM, Runtime

logger = logging.getLogger(__name__)

LONGEST_RUN: Final = 100
"""After this many events of one key in a row, events of other keys get their turn."""

SOON_S: Final = 0.05
"""How long commits of other processes may wait, so that many commits need one search in the outbox."""

SHORTEST_PAUSE_S: Final = 0.001

TRIM_PERIOD_S: Final = 3600.0

_RENEWALS: Final = 3
"""How often a claim is renewed within the time for which it holds."""


class _Delivery:
    """A task that delivers one event, then the next of its key.

    Attributes:
        event: the event whose claim it holds; None: none any more.
        is_attempting: its handlers are running.
    """

    __slots__ = ("event", "is_attempting", "task")

    def __init__(self, event: ClaimedEvent) -> None:
        self.event: ClaimedEvent | None = event
        self.is_attempting = False
        self.task: asyncio.Task[None]


class Dispatcher:
    """Delivers events for one host, from `start` to `close`.

    Args:
        claims: the claims of this host in the outbox.
        subscriptions: the handlers of the app.
        deliver: runs a handler.
        owned: gives a byte for each slot, 1 if it is owned here now; None: all are.
        options: how to deliver.
        runtime: gives the wall clock, as for the claims, the jitter of retries, and the tasks.

    Attributes:
        delivered_count: how many events have reached all their handlers.
        failed_count: how many attempts have failed.
    """

    def __init__(
        self,
        claims: Claims,
        subscriptions: Subscriptions,
        *,
        deliver: Deliver,
        owned: Callable[[], bytes | None],
        options: EventOptions,
        runtime: Runtime = SYSTEM,
    ) -> None:
        self._claims = claims
        self._subscriptions = subscriptions
        self._deliver = deliver
        self._owned = owned
        self._options = options
        self._clock = runtime.clock.wall
        self._monotonic = runtime.clock.monotonic
        self._entropy = runtime.entropy
        self._tasks = runtime.scope("the dispatcher of events")
        self._limits = TimeLimits()  # of its deliveries
        self._woken = asyncio.Event()
        self._soon: asyncio.TimerHandle | None = None
        self._is_closing = False
        # The deliveries in progress: `options.concurrency` at most, each of another key.
        self._deliveries: dict[_Delivery, None] = {}
        self._looking: asyncio.Task[None] | None = None
        self._holding: asyncio.Task[None] | None = None
        self._trim_due_s = -math.inf
        self.delivered_count = 0
        self.failed_count = 0

    async def start(self) -> None:
        """Begin to deliver.

        Raises:
            Exception: the outbox does not exist and cannot be made.
        """
        await self._claims.open(self.wake)
        self._looking = self._tasks.spawn(self._look_again_and_again(), name="look for events")
        self._holding = self._tasks.spawn(self._hold(), name="hold events")

    async def close(self) -> None:
        """Stop: running handlers are cancelled, and their events are left to other hosts."""
        self._is_closing = True
        self._claims.close()
        self._woken.set()
        if self._soon is not None:
            self._soon.cancel()
        if self._holding is not None:
            self._holding.cancel()
        tasks = [task for task in (self._looking, self._holding) if task is not None]
        if tasks:
            await asyncio.wait(tasks)  # a claim is not cut off half made: it would be held by no delivery
        deliveries = list(self._deliveries)
        for delivery in deliveries:
            if delivery.is_attempting:
                delivery.task.cancel()
        if deliveries:
            await asyncio.wait([delivery.task for delivery in deliveries])
        held = [delivery.event for delivery in deliveries if delivery.event is not None]
        if held:
            try:
                await self._claims.release(held)
            except Exception as error:  # the claims run out by themselves
                logger.info("events that were being delivered could not be given back: %s", error)

    def wake(self) -> None:
        """Search for due events now."""
        self._woken.set()

    def wake_soon(self) -> None:
        """Search for due events in a moment; one search serves all calls made meanwhile."""
        if self._soon is None and not self._is_closing:
            self._soon = asyncio.get_running_loop().call_later(SOON_S, self._on_soon)

    def _on_soon(self) -> None:
        self._soon = None
        self._woken.set()

    # -- searching for due events
    # ---------------------------------------------------------------------------------------
    async def _look_again_and_again(self) -> None:
        has_failed = False
        while not self._is_closing:
            self._woken.clear()
            try:
                pause_s = await self._take_what_is_due()
                await self._trim_when_due()
                has_failed = False
            except Exception as error:  # the database is away or broken: the dispatcher goes on
                logger.log(logging.DEBUG if has_failed else logging.WARNING, "events cannot be delivered: %s", error)
                has_failed = True
                pause_s = self._options.poll_period_s
            if pause_s > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), pause_s)

    async def _take_what_is_due(self) -> float:
        """Begin to deliver due events, as far as there is room; return in how many seconds to search again."""
        period_s = self._options.poll_period_s
        room = self._options.concurrency - len(self._deliveries)
        if room <= 0:
            return period_s  # or as soon as a delivery ends
        claimed = await self._claims.claim(
            room,
            owned=self._owned(),
            horizon_s=period_s,
            judge=self._judge_abandoned,
            besides=[delivery.event.key for delivery in self._deliveries if delivery.event is not None],
        )
        for event in claimed.events:
            delivery = _Delivery(event)
            self._deliveries[delivery] = None
            delivery.task = self._tasks.spawn(self._run(delivery), name=f"deliver {event.type}")
        if claimed.is_more and claimed.events:
            return 0.0
        if claimed.next_due_at is None:
            return period_s
        return min(max(claimed.next_due_at - self._clock(), SHORTEST_PAUSE_S), period_s)

    def _judge_abandoned(self, event: ClaimedEvent) -> Verdict:
        self.failed_count += 1
        return judged_abandoned(event, self._options, self._clock(), self._entropy)

    async def _trim_when_due(self) -> None:
        now_s = self._monotonic()
        if now_s < self._trim_due_s:
            return
        self._trim_due_s = now_s + TRIM_PERIOD_S
        retention_s = self._options.dead_retention_s
        count = await self._claims.trim(self._clock() - retention_s)
        if count:
            logger.warning("%d dead letters older than %g s were deleted", count, retention_s)

    # -- delivering ----------------------------------------------------------------------------------------------------
    async def _run(self, delivery: _Delivery) -> None:
        try:
            for count in range(1, LONGEST_RUN + 1):
                if delivery.event is None or self._is_closing:
                    return
                await self._deliver_one(delivery, delivery.event, wants_next=count < LONGEST_RUN)
        except Exception as error:
            # Handlers run under the event's ids, so they do not run again if another host gets the event after the
            # claim ends.
            logger.warning("the outcome of an event's delivery could not be written: %s", error)
            delivery.event = None
        finally:
            if delivery.event is None:  # else the dispatcher is closing, and the event is given back
                self._deliveries.pop(delivery, None)
            self._woken.set()

    async def _deliver_one(self, delivery: _Delivery, event: ClaimedEvent, *, wants_next: bool) -> None:
        """Deliver an event and note it in the outbox; the delivery then holds the next due event of its key."""
        subscription = self._subscriptions[event.type]
        delivery.is_attempting = True
        try:
            failures = await attempt(
                event, subscription, self._deliver, timeout_s=self._options.timeout_s, limits=self._limits
            )
        finally:
            delivery.is_attempting = False
        if failures:
            verdict = judged(event, subscription, failures, self._options, self._clock(), self._entropy)
            await self._claims.failed(event, verdict)
            delivery.event = None
            self.failed_count += 1
        else:
            delivery.event = await self._claims.succeeded(event, wants_next=wants_next and not self._is_closing)
            self.delivered_count += 1

    async def _hold(self) -> None:
        """Renew the claims of events in delivery; give up those that another host has taken."""
        while True:
            await asyncio.sleep(self._options.claim_s / _RENEWALS)
            held = {delivery: delivery.event for delivery in self._deliveries if delivery.event is not None}
            if not held:
                continue
            try:
                renewed = await self._claims.renew(held.values())
            except Exception as error:
                logger.warning("the claims of events could not be renewed: %s", error)
                continue
            for delivery, event in held.items():
                if event.position not in renewed and delivery.event is event and delivery.is_attempting:
                    logger.warning("the event %s was taken by another host, or discarded", event.event_id)
                    delivery.event = None
                    delivery.task.cancel()
