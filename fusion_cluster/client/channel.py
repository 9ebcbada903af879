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
"""How long a stream that is closed may take to be read to its end."""

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Clients of one process do not share a connection: a stream that is slow holds up nobody else.
    ("grpc.use_local_subchannel_pool", 1),
)


_NO_PROXY = (("grpc.enable_http_proxy", 0),)
"""The variables http_proxy, https_proxy and grpc_proxy are for other machines than this one."""


def open_channel(addresses: Sequence[Address]) -> grpc.aio.Channel:
    """A channel to any of these gateways, that connects when first used, and again by itself after each loss."""
    return grpc.aio.insecure_channel(target_of(addresses), options=_OPTIONS + proxy_options(addresses))


def proxy_options(addresses: Sequence[Address]) -> tuple[tuple[str, int], ...]:
    """The options of a channel that say whether a proxy of the environment may stand on the way."""
    return () if uses_proxies(addresses) else _NO_PROXY


def uses_proxies(addresses: Sequence[Address]) -> bool:
    """Whether a proxy of the environment may stand on the way; gRPC knows no way through one to several addresses."""
    return len(addresses) == 1 and not addresses[0].goes_past_proxies


class SessionStreams:
    """Opens `Session` streams on a channel, and ends them.

    Args:
        channel: closed by its owner, after `close`.
        runtime: makes the tasks.
    """

    def __init__(self, channel: grpc.aio.Channel, *, runtime: Runtime = SYSTEM) -> None:
        self._open: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(f"/{SERVICE}/Session")
        self._pumps = runtime.scope("session streams")
        self._create_task = runtime.create_task

    async def dial(self) -> GrpcStreamCarrier:
        """Open one more stream; a gateway that cannot be reached closes the carrier at once."""
        carrier = GrpcStreamCarrier(UNMERGED_FROM_CALLER)
        self._pumps.spawn(self._pump(carrier), name="session stream")
        return carrier

    async def close(self) -> None:
        """Wait until every stream has ended; their carriers must be closed."""
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
                # in which this client says that it leaves: commands would wait for its read lease.
                await asyncio.wait([reading], timeout=LAST_FRAME_S)
        finally:
            # Ends the pending read: it is not cancelled itself, which would leak in grpc.
            call.cancel()
            await asyncio.wait([reading])
