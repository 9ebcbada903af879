"""`Session` streams: each is a carrier of the session protocol, handed to the acceptor."""

from __future__ import annotations

import asyncio
from typing import Protocol

import grpc
from grpc_status import rpc_status

from fusion_cluster.errors import ShardUnavailable
from fusion_cluster.link.carrier import Carrier
from fusion_cluster.link.grpc_stream import UNMERGED_FROM_OWNER, GrpcStreamCarrier
from fusion_cluster.runtime import Runtime
from fusion_router.gateway.failures import failure_status


class Acceptor(Protocol):
    """Takes the carriers of `Session` streams: `link.acceptor.SessionAcceptor`."""

    def accept(self, carrier: Carrier) -> None:
        """Serve a session over the carrier."""

    async def close(self) -> None:
        """End all sessions."""


class GatewaySessions:
    """Opens a carrier for each stream.

    Args:
        acceptor: serves the sessions; None: this gateway has no sessions.
        runtime: makes the tasks.
    """

    def __init__(self, acceptor: Acceptor | None, *, runtime: Runtime) -> None:
        self._create_task = runtime.create_task
        self._acceptor = acceptor
        self._is_stopping = False

    async def session(self, requests: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        """`Session`: the session protocol; ends with UNAVAILABLE when the gateway stops."""
        if self._acceptor is None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "no sessions here")
        if self._is_stopping:
            await self._abort(context)
        carrier = GrpcStreamCarrier(UNMERGED_FROM_OWNER)
        self._acceptor.accept(carrier)
        reading = self._create_task(carrier.read_from(context.read), name="read a session stream")
        try:
            await carrier.write_to(context.write)
        finally:
            reading.add_done_callback(_retrieve)
        if self._is_stopping:
            await self._abort(context)

    def end(self) -> None:
        """Let every stream send its waiting messages, then end it; refuse new ones."""
        self._is_stopping = True

    async def _abort(self, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        stopping = ShardUnavailable("the gateway is stopping: connect again", retry_after_s=0.1)
        await context.abort_with_status(rpc_status.to_status(failure_status(stopping, "Session")))


def _retrieve(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()
