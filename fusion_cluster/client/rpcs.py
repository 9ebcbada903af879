"""The gateway's plain rpcs, for callers that know only the name of a method."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc

from fusion_cluster.client.channel import SERVICE
from fusion_cluster.client.failures import call_error, in_doubt, is_answered, is_connection_lost
from fusion_cluster.client.first_contact import FirstContact
from fusion_cluster.commands import Invocation
from fusion_cluster.commands.retrying import until_answered
from fusion_cluster.errors import (
    DeadlineExceeded,
    InvalidArgument,
    ShardUnavailable,
    UsageError,
)
from fusion_cluster.quantities import as_number
from fusion_cluster.runtime import SYSTEM, Runtime, is_being_cancelled
from fusion_cluster.v1 import gateway_pb2

RETRY_PAUSE_S = 0.05
"""The pause before a watch that was cut off is started again."""

LONGEST_INTERVAL_S = 30 * 86_400.0
"""The longest time between two updates of a watch that may be asked for."""

T = TypeVar("T")


class PlainRpcs:
    """`Call`, `Watch`, `Execute` and `Describe` on one channel.

    When the connection fails, reads and commands are retried until their time is up, watches without a limit. A command
    is retried under the same id, marked as a retry, so it runs once.

    Args:
        channel: the channel; its owner closes it.
        contact: the first contact, made before the first call.
        timeout_s: how long a call may take, reconnects included, and how long each reconnect of a watch may take. It
            may be infinite.
        runtime: the clock of deadlines.
    """

    def __init__(
        self, channel: grpc.aio.Channel, contact: FirstContact, *, timeout_s: float, runtime: Runtime = SYSTEM
    ) -> None:
        self._runtime = runtime
        self._now_s = runtime.clock.monotonic
        self._channel = channel
        self._contact = contact
        self._timeout_s = timeout_s
        self._is_closed = False
        self._call = channel.unary_unary(
            f"/{SERVICE}/Call",
            request_serializer=gateway_pb2.CallRequest.SerializeToString,
            response_deserializer=gateway_pb2.CallReply.FromString,
        )
        self._watch = channel.unary_stream(
            f"/{SERVICE}/Watch",
            request_serializer=gateway_pb2.WatchRequest.SerializeToString,
            response_deserializer=gateway_pb2.Update.FromString,
        )
        self._execute = channel.unary_unary(
            f"/{SERVICE}/Execute",
            request_serializer=gateway_pb2.ExecuteRequest.SerializeToString,
            response_deserializer=gateway_pb2.ExecuteReply.FromString,
        )
        self._describe = channel.unary_unary(
            f"/{SERVICE}/Describe",
            request_serializer=gateway_pb2.DescribeRequest.SerializeToString,
            response_deserializer=gateway_pb2.DescribeReply.FromString,
        )

    async def call(self, name: str, arguments: gateway_pb2.Payload) -> gateway_pb2.CallReply:
        """Read a value.

        Raises:
            ShardUnavailable: the gateway, or the shard behind it, could not be reached in time.
            Exception: the exception that the method raised.
        """
        service, method = split_name(name)
        request = gateway_pb2.CallRequest(service=service, method=method, arguments=arguments)
        return await self._repeated(name, lambda timeout_s: self._call(request, timeout=timeout_s))

    async def describe(self, service: str = "") -> gateway_pb2.DescribeReply:
        """Describe all services and their methods, or one service.

        Raises:
            UnknownService: the app has no such service.
            ShardUnavailable: the gateway could not be reached in time.
        """
        request = gateway_pb2.DescribeRequest(service=service)
        return await self._repeated("Describe", lambda timeout_s: self._describe(request, timeout=timeout_s))

    async def execute(self, name: str, arguments: gateway_pb2.Payload, command_id: str) -> gateway_pb2.ExecuteReply:
        """Run a command.

        Raises:
            CommandOutcomeUnknown: the connection was lost while it ran, and was not restored in time; retry with the
                same id.
            CommandNotRecorded: the connection was lost while it ran, and the app has no database that records its
                outcome.
            ShardUnavailable: the gateway could not be reached in time; the command was not run.
            Exception: the exception that the command raised.
        """
        service, method = split_name(name)
        request = gateway_pb2.ExecuteRequest(service=service, method=method, arguments=arguments, command_id=command_id)

        async def attempt(invocation: Invocation) -> gateway_pb2.ExecuteReply:
            with self._ended_by_close(name, command_id if invocation.is_retry else ""):
                await self._connected(invocation.deadline_s)
            request.is_retry = invocation.is_retry
            try:
                with self._ended_by_close(name, command_id):
                    return await self._execute(request, timeout=self._left_s(invocation.deadline_s))
            except grpc.aio.AioRpcError as error:
                raise self._execute_error(error, name, command_id) from error

        invocation = Invocation(name, (), "command", command_id, deadline_s=await self._deadline_s(name))
        return await until_answered(invocation, attempt, runtime=self._runtime, pause=self._pause)

    def _execute_error(self, error: grpc.aio.AioRpcError, name: str, command_id: str) -> Exception:
        is_late = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and not is_answered(error)
        if is_late or is_connection_lost(error):
            return in_doubt(name, command_id)
        return call_error(error)

    async def watch(
        self, name: str, arguments: gateway_pb2.Payload, min_interval_s: float = 0.0
    ) -> AsyncGenerator[gateway_pb2.Update, None]:
        """Yield the updates of a value, through reconnects. After a reconnect the last value may come again.

        Raises:
            ShardUnavailable: the gateway could not be reached in time, at the start or after a loss.
            FusionError: the gateway refused the watch.
        """
        service, method = split_name(name)
        call = gateway_pb2.CallRequest(service=service, method=method, arguments=arguments)
        request = gateway_pb2.WatchRequest(call=call, min_interval_ms=round(min_interval_s * 1000))
        while True:
            with self._ended_by_close(name):
                await self._connected(await self._deadline_s(name))
                updates = self._watch(request)
            try:
                while (update := await self._next(updates, name)) is not None:
                    yield update
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise call_error(error) from error
            finally:
                updates.cancel()
            await asyncio.sleep(RETRY_PAUSE_S)

    def close(self) -> None:
        """Note that the channel is being closed: pending calls end with an error that says so."""
        self._is_closed = True

    async def _next(
        self, updates: grpc.aio.UnaryStreamCall[Any, gateway_pb2.Update], name: str
    ) -> gateway_pb2.Update | None:
        with self._ended_by_close(name):
            update = await updates.read()
        return update if isinstance(update, gateway_pb2.Update) else None

    @contextmanager
    def _ended_by_close(self, name: str, command_id: str = "") -> Iterator[None]:
        """Replace the errors of a closed channel by our own: `CommandOutcomeUnknown` if a command was sent."""
        try:
            yield
        except (asyncio.CancelledError, grpc.aio.AioRpcError, grpc.aio.BaseError):
            if not self._is_closed or is_being_cancelled():
                raise
            if command_id:
                raise in_doubt(name, command_id) from None
            raise UsageError(f"{name}: the client of {self._contact.where} was closed meanwhile") from None

    async def _repeated(self, name: str, rpc: Callable[[float | None], Awaitable[T]]) -> T:
        async def attempt(invocation: Invocation) -> T:
            try:
                with self._ended_by_close(name):
                    await self._connected(invocation.deadline_s)
                    return await rpc(self._left_s(invocation.deadline_s))
            except grpc.aio.AioRpcError as error:
                failure = call_error(error)
                if isinstance(failure, DeadlineExceeded) and self._now_s() >= invocation.deadline_s:
                    where = self._contact.where
                    raise DeadlineExceeded(f"{name}: {where} has not answered within {self._timeout_s:g} s") from error
                raise failure from error

        invocation = Invocation(name, deadline_s=await self._deadline_s(name))
        return await until_answered(invocation, attempt, runtime=self._runtime, pause=self._pause)

    async def _pause(self, pause_s: float) -> None:
        if self._is_closed:
            raise ShardUnavailable(f"the client of {self._contact.where} was closed meanwhile")
        await asyncio.sleep(pause_s)

    def _left_s(self, deadline_s: float) -> float | None:
        """Return the time left as asyncio and gRPC take it; None: no limit."""
        return max(0.0, deadline_s - self._now_s()) if deadline_s < math.inf else None

    async def _deadline_s(self, name: str) -> float:
        """Return when a call that begins now must have ended.

        Raises:
            ShardUnavailable: no gateway has ever answered. That is final: the address may be wrong.
        """
        deadline_s = self._now_s() + self._timeout_s
        if not self._contact.is_made:
            with self._ended_by_close(name):
                await self._contact.make()
        return deadline_s

    async def _connected(self, deadline_s: float) -> None:
        while (state := self._channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
            try:
                await asyncio.wait_for(self._channel.wait_for_state_change(state), self._left_s(deadline_s))
            except TimeoutError:
                where = self._contact.where
                raise ShardUnavailable(f"the gateway at {where} was away for {self._timeout_s:g} s") from None


def as_interval(field: str, interval_s: object) -> float:
    """Return the shortest time between two updates. It travels as milliseconds in 32 bits, so it is bounded.

    Raises:
        InvalidArgument: it is not a number of seconds, or it is too long.
    """
    wanted = f"a number of seconds from 0 to {LONGEST_INTERVAL_S:.0f}"
    return as_number(field, interval_s, wanted, most=LONGEST_INTERVAL_S)


def split_name(name: str) -> tuple[str, str]:
    """Split a full name into service and method.

    Raises:
        InvalidArgument: it is not of the form "Carts.total".
    """
    service, _, method = name.rpartition(".")
    if not service or not method:
        raise InvalidArgument(f"{name!r} is not of the form Service.method", field="method")
    return service, method
