"""The client's gRPC channel, and the carriers of sessions that are opened on it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import grpc

from fusion_cluster.addresses import Address, target_of
from fusion_cluster.link.grpc_stream import MAX_MESSAGE_BYTES, UNMERGED_FROM_CALLER, GrpcStreamCarrier
from fusion_cluster.runtime import SYSTEM, Runtime

SERVICE = "fusion_cluster.v1.Gateway"

LAST_FRAME_S = 0.5
"""How long it may take to read a closed stream to its end."""

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Clients of one process do not share a connection: a slow stream does not delay other clients.
    ("grpc.use_local_subchannel_pool", 1),
)


_NO_PROXY = (("grpc.enable_http_proxy", 0),)
"""Used where the address is on this machine: http_proxy, https_proxy and grpc_proxy are for other machines."""


def open_channel(addresses: Sequence[Address]) -> grpc.aio.Channel:
    """Return a channel to any of these gateways. It connects when first used, and again by itself after a loss."""
    return grpc.aio.insecure_channel(target_of(addresses), options=_OPTIONS + proxy_options(addresses))


def proxy_options(addresses: Sequence[Address]) -> tuple[tuple[str, int], ...]:
    """Return the options of a channel that switch the proxies of the environment off where they must not be used."""
    return () if uses_proxies(addresses) else _NO_PROXY


def uses_proxies(addresses: Sequence[Address]) -> bool:
    """Return whether a proxy of the environment may be used; gRPC cannot reach several addresses through a proxy."""
    return len(addresses) == 1 and not addresses[0].goes_past_proxies


class SessionStreams:
    """Opens `Session` streams on a channel, and ends them.

    Args:
        channel: the channel; its owner closes it, after `close`.
        runtime: makes the tasks.
    """

    def __init__(self, channel: grpc.aio.Channel, *, runtime: Runtime = SYSTEM) -> None:
        self._open: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(f"/{SERVICE}/Session")
        self._pumps = runtime.scope("session streams")
        self._create_task = runtime.create_task

    async def dial(self) -> GrpcStreamCarrier:
        """Open one more stream. If the gateway cannot be reached, the carrier closes at once."""
        carrier = GrpcStreamCarrier(UNMERGED_FROM_CALLER)
        self._pumps.spawn(self._pump(carrier), name="session stream")
        return carrier

    async def close(self) -> None:
        """Wait until every stream has ended. The carriers must be closed before."""
        if self._pumps.tasks:
            await asyncio.wait(self._pumps.tasks, timeout=1.0)
        await self._pumps.close()

    async def _pump(self, carrier: GrpcStreamCarrier) -> None:
        call = self._open()
        reading = self._create_task(carrier.read_from(call.read), name="read a session stream")
        try:
            await carrier.write_to(call.write)
            if not reading.done():
                await call.done_writing()
                # The gateway ends the stream when it has read all of it. A cancellation could overtake the last frame,
                # with which this client leaves; then commands would wait for its read lease.
                await asyncio.wait([reading], timeout=LAST_FRAME_S)
        finally:
            # This ends the pending read. Cancelling the read itself would leak in grpc.
            call.cancel()
            await asyncio.wait([reading])
