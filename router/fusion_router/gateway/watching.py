"""One watch: the value now, and again after each change, for as long as the client stays.

Changes while an update is being sent are merged into the next one, so a slow client skips intermediate values and costs
no memory. An update that would repeat the last value is not sent. Transient cluster errors are waited out here; the
client gets them only if they last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from fusion_cluster.errors import ClusterError, FusionError, ResourceExhausted, ShardUnavailable
from fusion_cluster.graph import Computed
from fusion_cluster.runtime import SYSTEM, Runtime, is_being_cancelled
from fusion_cluster.v1 import gateway_pb2
from fusion_router.gateway.failures import failure_status, internal_status
from fusion_router.gateway.reads import Read, ResultEncodingError, update_content

FIRST_PAUSE_S = 0.02
"""Pause after the first failure whose error is not kept; it doubles up to `LONGEST_PAUSE_S`."""

LONGEST_PAUSE_S = 1.0

OUTAGE_NOTICE_S = 10.0
"""A cluster error that lasts longer is sent as an update, once: the value shown may be out of date."""


class Watch:
    """Sends the updates of one read.

    Args:
        read: the read to watch.
        method: its name, for the log.
        send: sends a serialized `Update`; returns when the client can take the next.
        min_interval_s: shortest time between two updates.
        outage_notice_s: see `OUTAGE_NOTICE_S`.
        runtime: gives the clock and the jitter of pauses.
    """

    def __init__(
        self,
        read: Read,
        method: str,
        send: Callable[[bytes], Awaitable[None]],
        *,
        min_interval_s: float = 0.0,
        outage_notice_s: float = OUTAGE_NOTICE_S,
        runtime: Runtime = SYSTEM,
    ) -> None:
        self._now_s = runtime.clock.monotonic
        self._pauses = runtime.backoff(first_s=FIRST_PAUSE_S, longest_s=LONGEST_PAUSE_S)
        self._read = read
        self._method = method
        self._send = send
        self._min_interval_s = min_interval_s
        self._outage_notice_s = outage_notice_s
        self._sent = b""
        self._sent_at_s = -float("inf")
        self._outage_since_s: float | None = None

    async def run(self) -> None:
        """Send updates until cancelled."""
        while True:
            node = self._read.lookup()
            error: BaseException | None = None
            try:
                await node
                if not node.has_output:  # its method varies: the reader has another node
                    node = self._read.lookup()
                    await node
            except asyncio.CancelledError:
                if is_being_cancelled():
                    raise
                error = ShardUnavailable("the computation was cancelled")
            except Exception as raised:
                error = raised
            if isinstance(error, ClusterError) and error.is_transient:
                await self._wait_out(error)
                continue
            self._outage_since_s = None
            await self._update(self._read_update(node) if error is None else self._error_update(error))
            if node.is_consistent:
                self._pauses.reset()
                await node.when_invalidated()
            elif error is not None:
                await self._pause(error)  # the error is not kept: no invalidation will ever follow
            await self._keep_interval()

    def _read_update(self, node: Computed[Any]) -> bytes:
        try:
            return self._read.reply(node)
        except ResourceExhausted as error:
            return self._error_update(error)
        except ResultEncodingError as error:
            return gateway_pb2.Update(error=internal_status(error, self._method)).SerializeToString()

    def _error_update(self, error: BaseException) -> bytes:
        return gateway_pb2.Update(error=failure_status(error, self._method)).SerializeToString()

    async def _update(self, update: bytes) -> None:
        if update_content(update) != update_content(self._sent):
            self._sent = update
            await self._send(update)
            self._sent_at_s = self._now_s()

    async def _keep_interval(self) -> None:
        early_s = self._sent_at_s + self._min_interval_s - self._now_s()
        if early_s > 0:
            await asyncio.sleep(early_s)

    async def _wait_out(self, error: ClusterError) -> None:
        now_s = self._now_s()
        if self._outage_since_s is None:
            self._outage_since_s = now_s
        elif now_s - self._outage_since_s >= self._outage_notice_s:
            await self._update(self._error_update(error))
        await self._pause(error)

    async def _pause(self, error: BaseException) -> None:
        asked_s = error.retry_after_s if isinstance(error, FusionError) and error.retry_after_s else 0.0
        await asyncio.sleep(self._pauses.next_s(least_s=min(asked_s, LONGEST_PAUSE_S)))
