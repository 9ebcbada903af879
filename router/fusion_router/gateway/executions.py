"""Commands in flight and recent ones, by the id that the client made: a retry gets the first run's result.

A command goes on when its client leaves, so that the client can come back with the same id for the outcome. Only this
gateway remembers them: that answers the common case, a retry after a broken connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fusion_cluster.errors import InvalidArgument, Overloaded
from fusion_cluster.runtime import SYSTEM, Runtime


@dataclass(frozen=True, slots=True)
class _Execution:
    request: bytes
    outcome: asyncio.Future[bytes]
    size_bytes: int = 0


class Executions:
    """Runs each command id once.

    Args:
        max_in_flight: how many commands run at one time; more are refused.
        max_kept_bytes: bound on the results that are remembered; the oldest go first.
    """

    def __init__(
        self, *, max_in_flight: int = 1_000, max_kept_bytes: int = 16 * 2**20, runtime: Runtime = SYSTEM
    ) -> None:
        self._create_task = runtime.create_task
        self._max_in_flight = max_in_flight
        self._max_kept_bytes = max_kept_bytes
        self._running: dict[str, _Execution] = {}
        self._kept: dict[str, _Execution] = {}
        self._kept_bytes = 0

    async def run(self, command_id: str, request: bytes, execute: Callable[[], Awaitable[bytes]]) -> tuple[bytes, bool]:
        """Return the outcome of a command, and whether an earlier run gave it.

        Args:
            command_id: made by the client, the same for each retry.
            request: the normal form of the request, which a retry must have in common with the first try.
            execute: runs the command.

        Raises:
            InvalidArgument: the id was used for another command.
            Overloaded: too many commands run.
            Exception: the error that the command raised; it is then forgotten, and a retry runs it again.
        """
        known = self._running.get(command_id) or self._kept.get(command_id)
        if known is None:
            known = self._start(command_id, request, execute)
            return await asyncio.shield(known.outcome), False
        if known.request != request:
            raise InvalidArgument("this id was used for another command", field="command_id")
        return await asyncio.shield(known.outcome), True

    async def close(self, grace_s: float) -> None:
        """Wait for the commands that run; cancel those that take longer than `grace_s` seconds."""
        outcomes = [execution.outcome for execution in self._running.values()]
        if outcomes:
            _, late = await asyncio.wait(outcomes, timeout=grace_s)
            for outcome in late:
                outcome.cancel()
            await asyncio.wait(outcomes)

    def _start(self, command_id: str, request: bytes, execute: Callable[[], Awaitable[bytes]]) -> _Execution:
        if len(self._running) >= self._max_in_flight:
            raise Overloaded(f"{self._max_in_flight} commands run already", retry_after_s=0.1)

        async def run() -> bytes:
            return await execute()

        task = self._create_task(run(), name=f"execute {command_id}")
        execution = self._running[command_id] = _Execution(request, task)
        task.add_done_callback(lambda _: self._on_done(command_id, execution))
        return execution

    def _on_done(self, command_id: str, execution: _Execution) -> None:
        del self._running[command_id]
        if execution.outcome.cancelled() or execution.outcome.exception() is not None:
            return
        size_bytes = 500 + len(execution.request) + len(execution.outcome.result())
        # A separate future: the task would keep alive everything that the command's coroutine holds.
        result: asyncio.Future[bytes] = execution.outcome.get_loop().create_future()
        result.set_result(execution.outcome.result())
        self._kept[command_id] = _Execution(execution.request, result, size_bytes)
        self._kept_bytes += size_bytes
        while self._kept_bytes > self._max_kept_bytes:
            oldest = next(iter(self._kept))
            self._kept_bytes -= self._kept.pop(oldest).size_bytes
