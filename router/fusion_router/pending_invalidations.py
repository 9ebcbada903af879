"""Plain invalidations on their way to one owner: one message is in flight, later keys go with the next.

Even if the owner is away for long, the waiting keys are bounded by the number of different keys.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Final

from fusion_cluster.database.applied_operations import Reference
from fusion_cluster.runtime import SYSTEM, Runtime
from fusion_cluster.wire.limits import MAX_PAYLOAD_SIZE
from fusion_router.invalidation import Sent, Told

logger = logging.getLogger(__name__)

_REFERENCE_OVERHEAD: Final = 32
"""Bytes that a key takes in a message besides its name and arguments, at most."""

Tell = Callable[[Told, str], Awaitable[Exception | None]]
"""Sends keys, and the logged operation that they all belong to ("": none, or several), to their owner until it has
answered; returns the error of an owner that refuses."""


class PendingInvalidations:
    """The invalidations that wait for one owner.

    Args:
        tell: sends keys to the owner.
        runtime: makes the task that sends.
    """

    def __init__(self, tell: Tell, *, runtime: Runtime = SYSTEM) -> None:
        self._tell = tell
        self._tasks = runtime.scope("invalidations for one owner")
        self._waiting: dict[Reference, Sent] = {}
        self._operation_id = ""
        # Done when the waiting keys are confirmed; None: no key waits.
        self._confirmed: asyncio.Future[None] | None = None
        self._sender: asyncio.Task[None] | None = None

    def add(self, references: Told, operation_id: str = "") -> asyncio.Future[None]:
        """Put keys into the next message; the future is done when the owner has confirmed them, or has refused.

        Args:
            references: the keys.
            operation_id: the logged operation that they belong to; "": none.
        """
        loop = asyncio.get_running_loop()
        self._operation_id = operation_id if not self._waiting or operation_id == self._operation_id else ""
        for reference, sent in references.items():
            self._waiting.setdefault(reference, sent)
        if self._confirmed is None:
            self._confirmed = loop.create_future()
        if self._sender is None:
            self._sender = self._tasks.spawn(self._send(), name="send invalidations", context=copy_context())
        return self._confirmed

    async def close(self) -> None:
        """Give up what has not been sent."""
        await self._tasks.close()

    async def _send(self) -> None:
        while self._confirmed is not None:
            references, self._waiting = self._waiting, {}
            operation_id, self._operation_id = self._operation_id, ""
            confirmed, self._confirmed = self._confirmed, None
            try:
                refusal = await self._tell(references, operation_id)
            except Exception as fault:  # an internal error; later keys must reach the owner all the same
                logger.exception("telling an owner of invalidations failed")
                refusal = fault
            if refusal is None:
                confirmed.set_result(None)
            else:
                confirmed.set_exception(refusal)
                confirmed.exception()  # waiters get it; there may be none
        self._sender = None


def messages_of(references: Told) -> list[dict[Reference, Sent]]:
    """Return the references in as few messages as the size of a frame allows."""
    messages: list[dict[Reference, Sent]] = []
    room = 0
    latest = ""
    for (name, arguments), sent in references.items():
        origin_size = 4 * len(sent.origin)
        size = 4 * len(name) + len(arguments) + _REFERENCE_OVERHEAD
        if sent.origin != latest:
            size += origin_size  # counted more than once if several alternate: there is room for that
        if size > room:
            messages.append({})
            size += origin_size if sent.origin == latest else 0
            room = MAX_PAYLOAD_SIZE - _REFERENCE_OVERHEAD
        latest = sent.origin
        room -= size
        messages[-1][name, arguments] = sent
    return messages
