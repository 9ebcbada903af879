"""The replay of a day: its events as commands, in time order, with so many under way at once.

Invariant: a command of a flight begins after the flight's earlier one was confirmed. A command whose outcome is not
known (its shard was killed) is sent again, with the same id, until it is confirmed; since the commands set absolute
values, the final totals are right however often one ran.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from examples.flights.replay.events import FlightEvent
from examples.flights.replay.execution import Execute
from examples.flights.replay.pace import due_times_s
from fusion_cluster.errors import FusionError

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0
RETRY_FOR_S = 60.0


@dataclass
class ReplayProgress:
    """How far a replay is.

    Attributes:
        total: commands in all.
        confirmed: commands that returned.
        retries: tries beyond the first.
        minute: the time of day, in New York, of the newest command that was sent; minutes since midnight.
        latency_s: how long the newest command took, retries included.
    """

    total: int
    confirmed: int = 0
    retries: int = 0
    minute: int = 0
    latency_s: float = 0.0


class Replay:
    """One run over a day.

    Args:
        events: in order, as `events_of` gives them.
        execute: runs one command.
        concurrency: how many commands are under way at once.
        retry_for_s: how long one command is tried before its error is raised.
        on_confirmed: is told of each event whose command returned.
    """

    def __init__(
        self,
        events: Sequence[FlightEvent],
        execute: Execute,
        *,
        concurrency: int = 16,
        retry_for_s: float = RETRY_FOR_S,
        on_confirmed: Callable[[FlightEvent], None] | None = None,
    ) -> None:
        self.progress = ReplayProgress(total=len(events), minute=events[0].minute if events else 0)
        self._events = events
        self._execute = execute
        self._free_places = asyncio.Semaphore(concurrency)
        self._retry_for_s = retry_for_s
        self._on_confirmed = on_confirmed
        self._replay_id = uuid.uuid4().hex

    async def run(self, seconds: float = 0.0) -> None:
        """Apply all events.

        Args:
            seconds: how long to take; it takes longer when the commands do. 0: as fast as they go.

        Raises:
            Exception: what a command raised that is of no use to repeat, or was repeated long enough.
        """
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        due_times = due_times_s([event.minute for event in self._events], seconds)
        # Flight -> its newest command that may still be under way.
        newest: dict[int, asyncio.Task[None]] = {}
        try:
            async with asyncio.TaskGroup() as group:
                for event, due_s in zip(self._events, due_times, strict=True):
                    wait_s = start_s + due_s - loop.time()
                    if wait_s > 0:
                        await asyncio.sleep(wait_s)
                    await self._free_places.acquire()
                    self.progress.minute = event.minute
                    newest[event.flight_id] = group.create_task(self._apply(event, newest.get(event.flight_id)))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _apply(self, event: FlightEvent, earlier: asyncio.Task[None] | None) -> None:
        try:
            if earlier is not None:
                await earlier
            await self._confirm(event)
        finally:
            self._free_places.release()
        self.progress.confirmed += 1
        if self._on_confirmed is not None:
            self._on_confirmed(event)

    async def _confirm(self, event: FlightEvent) -> None:
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        command_id = f"{self._replay_id}-{event.flight_id}-{event.kind}"
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                await self._execute(event.command, event.arguments, command_id)
            except FusionError as error:
                if not error.is_transient or loop.time() - start_s > self._retry_for_s:
                    raise
                self.progress.retries += 1
                await asyncio.sleep(max(pause_s * random.uniform(0.5, 1.0), error.retry_after_s or 0.0))
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            else:
                self.progress.latency_s = loop.time() - start_s
                return
