"""Drives a `Coordination`: reports events to it, has a control plane apply its effects, and keeps its timers.

Invariant: events are taken one after another, each with all of its effects before the next one, also when an effect
itself leads to an event. The same loop runs in the coordinator actor, in `LocalCluster` and in the tests' clusters of
processes; only their control planes differ.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol

from fusion_cluster.errors import UsageError
from fusion_cluster.protocol.coordination import (
    AnswerEpoch,
    AnswerMap,
    AskerLeft,
    Began,
    Coordination,
    Effect,
    EpochAsked,
    Event,
    FailLaunch,
    KillMember,
    MapAsked,
    MemberId,
    ReportLaunch,
    ReportStop,
    SetTimer,
    StartMember,
    StopAsked,
    StopMember,
    Ticked,
)
from fusion_cluster.protocol.slot_map import SlotMap

logger = logging.getLogger(__name__)

Report = Callable[[Event], None]


class ControlPlane(Protocol):
    """Runs the processes of members. No method waits: events report what becomes of a member.

    The obligations are those of `protocol.coordination.coordination`.
    """

    def start(self, member: MemberId, report: Report) -> None:
        """Start a member, or find its running process; report `Served`, then `Died`, or `StartFailed`."""

    def kill(self, member: MemberId) -> None:
        """End the process of a member that cannot serve."""

    def stop(self, member: MemberId, report: Report) -> None:
        """Stop a member for good, and report `Stopped`, also if it does not run."""


class CoordinationLoop:
    """Runs a coordination over a control plane, in the event loop in which it begins.

    Args:
        coordination: makes the decisions.
        plane: applies the effects.

    Attributes:
        coordination: the state, to look at.
    """

    def __init__(self, coordination: Coordination, plane: ControlPlane) -> None:
        self.coordination = coordination
        self._plane = plane
        self._loop = asyncio.get_running_loop()
        self._events: deque[tuple[Event, float]] = deque()
        self._is_stepping = False
        self._timers: set[asyncio.TimerHandle] = set()
        self._next_asker = 0
        # Unanswered questions -> the function that takes the answer.
        self._epoch_askers: dict[int, Callable[[int], None]] = {}
        self._map_askers: dict[int, Callable[[SlotMap], None]] = {}
        self._launched: asyncio.Future[None] = self._loop.create_future()
        self._stopped: asyncio.Future[None] = self._loop.create_future()

    @property
    def slot_map(self) -> SlotMap:
        """The map in force."""
        return self.coordination.slot_map

    # -- events -------------------------------------------------------------------------------------------------------
    def begin(self) -> None:
        """Start all members."""
        self.report(Began())

    def report(self, event: Event) -> None:
        """Take an event, and apply its effects before this returns.

        An event that a control plane reports while it applies an effect is taken when the effects before it are done.
        """
        self._take(event, self._loop.time())

    def ask_epoch(self, member: MemberId, on_answer: Callable[[int], None]) -> None:
        """Ask for the epoch of the process of a member that has begun."""
        asker = self._new_asker()
        self._epoch_askers[asker] = on_answer
        self.report(EpochAsked(member, asker))

    def ask_map(self, newer_than: int, on_answer: Callable[[SlotMap], None]) -> int:
        """Ask for a map that is newer than a version; 0: for any.

        Returns:
            The name of the question, for `withdraw`.
        """
        asker = self._new_asker()
        self._map_askers[asker] = on_answer
        self.report(MapAsked(asker, newer_than))
        return asker

    def withdraw(self, asker: int) -> None:
        """Withdraw a question for a map."""
        if self._map_askers.pop(asker, None) is not None:
            self.report(AskerLeft(asker))

    def follow(self, on_map: Callable[[SlotMap], bool]) -> None:
        """Give the map that is in force now, and each newer one, to `on_map`, until it returns False."""

        def on_answer(slot_map: SlotMap) -> None:
            if on_map(slot_map):
                self.ask_map(slot_map.version, on_answer)

        self.ask_map(0, on_answer)

    # -- waits of callers ---------------------------------------------------------------------------------------------
    async def next_epoch(self, member: MemberId) -> int:
        """Return the epoch for the process of a member that has begun."""
        answer: asyncio.Future[int] = self._loop.create_future()
        self.ask_epoch(member, answer.set_result)
        return await answer

    async def next_map(self, newer_than: int, timeout_s: float) -> SlotMap | None:
        """Wait for a map that is newer than a version; None: there is none within the time."""
        answer: asyncio.Future[SlotMap] = self._loop.create_future()
        asker = self.ask_map(newer_than, answer.set_result)
        try:
            await asyncio.wait([answer], timeout=timeout_s)
            return answer.result() if answer.done() else None
        finally:
            self.withdraw(asker)

    async def wait_until_launched(self) -> None:
        """Wait until all members serve, for the first time.

        Raises:
            UsageError: a member cannot start, or the app was stopped.
        """
        await asyncio.shield(self._launched)

    async def stop(self) -> None:
        """Stop all members, and wait until they have stopped."""
        self.report(StopAsked())
        await asyncio.shield(self._stopped)
        self.close()

    def close(self) -> None:
        """Forget the timers; members are left as they are."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._fail_launch("the app was stopped before it was up")

    # -- effects ------------------------------------------------------------------------------------------------------
    def _take(self, event: Event, now_s: float) -> None:
        self._events.append((event, now_s))
        if self._is_stepping:
            return
        self._is_stepping = True
        try:
            while self._events:
                for effect in self.coordination.step(*self._events.popleft()):
                    self._apply(effect)
        finally:
            self._is_stepping = False

    def _apply(self, effect: Effect) -> None:
        match effect:
            case StartMember(member):
                self._plane.start(member, self.report)
            case KillMember(member):
                self._plane.kill(member)
            case StopMember(member):
                self._plane.stop(member, self.report)
            case AnswerEpoch(asker, epoch):
                self._epoch_askers.pop(asker)(epoch)
            case AnswerMap(asker, slot_map):
                if (on_answer := self._map_askers.pop(asker, None)) is not None:
                    on_answer(slot_map)
            case SetTimer(at_s):
                self._set_timer(at_s)
            case ReportLaunch():
                if not self._launched.done():
                    self._launched.set_result(None)
            case FailLaunch(reason):
                logger.error(reason)
                self._fail_launch(reason)
            case ReportStop():
                self._stopped.set_result(None)

    def _fail_launch(self, reason: str) -> None:
        if not self._launched.done():
            self._launched.set_exception(UsageError(reason))
            self._launched.exception()  # the launch may have no waiter

    def _set_timer(self, at_s: float) -> None:
        def tick() -> None:
            self._timers.discard(timer)
            self._take(Ticked(), max(at_s, self._loop.time()))  # timers may come slightly early

        timer = self._loop.call_at(at_s, tick)
        self._timers.add(timer)

    def _new_asker(self) -> int:
        self._next_asker += 1
        return self._next_asker
