"""The rpcs of `fusion_cluster.v1.Gateway`, from request bytes to reply bytes.

Requests are parsed here and not by gRPC, so that a malformed request is the client's error and not an internal one, and
so that the hot path of `Call` needs no parsing. Every failure becomes a status in one of two ways: errors of a method
or the cluster go through the table of errors, any other error is internal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Final, NoReturn, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import status_pb2
from grpc_status import rpc_status

from fusion_cluster.catalogue.method import Method, MethodKind
from fusion_cluster.commands import CommandResult, Invocation
from fusion_cluster.errors import (
    CommandOutcomeUnknown,
    FusionError,
    InvalidArgument,
    ResourceExhausted,
    ShardUnavailable,
    UnknownMethod,
)
from fusion_cluster.failures.exits import body_cancelled, body_exited, in_words, reraise_outside
from fusion_cluster.host import Host
from fusion_cluster.runtime import is_being_cancelled
from fusion_cluster.runtime.baggage import TRACE, arrive
from fusion_cluster.runtime.deadline import NO_DEADLINE, deadline_at
from fusion_cluster.v1 import gateway_pb2
from fusion_router.gateway.descriptions import describe
from fusion_router.gateway.executions import Executions
from fusion_router.gateway.failures import failure_status, internal_status
from fusion_router.gateway.limits import GatewayLimits
from fusion_router.gateway.payloads import decode_arguments, encode_payload
from fusion_router.gateway.reads import Read, ReadCache, ResultEncodingError
from fusion_router.gateway.watching import Watch

Context = grpc.aio.ServicerContext[bytes, bytes]
M = TypeVar("M", bound=Message)
T = TypeVar("T")


_OF_A_COMMAND: Final = 0.9
"""The part of its client's time that a command may take. The rest is for the way back: a client whose time is up before
the answer comes cannot know whether the command has run."""


class MethodError(Exception):
    """A method of the app raised; `__cause__` is its error."""


class GatewayRpcs:
    """The unary rpcs and `Watch`; each method is a gRPC handler that takes and gives serialized messages.

    Args:
        host: the host whose services are called.
        limits: the limits of requests.
    """

    def __init__(self, host: Host, limits: GatewayLimits) -> None:
        self._host = host
        self._limits = limits
        self._reads = ReadCache(self._resolve, max_bytes=limits.max_cache_bytes)
        self._executions = Executions(max_in_flight=limits.max_commands_in_flight, runtime=host.runtime)
        self._watches: set[asyncio.Task[Any]] = set()
        self._is_stopping = False

    # -- handlers
    async def call(self, request: bytes, context: Context) -> bytes:
        """`Call`: one read."""
        try:
            _arrive(context)
            read = self._reads.read(request)
            node = read.lookup()
            if not node.is_consistent or node.error is not None:
                with deadline_at(self._deadline_s(context)):
                    await _outcome(read.function.name, node)
                    if not node.has_output:  # its method varies: the reader has another node
                        node = read.lookup()
                        await _outcome(read.function.name, node)
            return self._reads.reply(request, read, node)
        except Exception as error:
            return await _abort(context, _status(error, "Call"))

    async def watch(self, request: bytes, context: Context) -> None:
        """`Watch`: the value now, and again after each change."""
        task = asyncio.current_task()
        assert task is not None
        try:
            _arrive(context)
            message = _parse(gateway_pb2.WatchRequest, request)
            read = self._reads.read(message.call.SerializeToString())
            if self._is_stopping:
                raise _stopping()
            self._watches.add(task)
            interval_s, runtime = message.min_interval_ms / 1000, self._host.runtime
            watch = Watch(read, read.function.name, context.write, min_interval_s=interval_s, runtime=runtime)
            with deadline_at(self._deadline_s(context)):
                await watch.run()
        except asyncio.CancelledError:
            if not self._is_stopping or context.done():
                raise
            task.uncancel()
            await _abort(context, failure_status(_stopping(), "Watch"))
        except Exception as error:
            await _abort(context, _status(error, "Watch"))
        finally:
            self._watches.discard(task)

    async def _carry_out(self, invocation: Invocation) -> CommandResult:
        return await self._host.carry_out(invocation)  # what that raises at once is raised here, by the await

    async def execute(self, request: bytes, context: Context) -> bytes:
        """`Execute`: a command, once per command id."""
        try:
            _arrive(context)
            message = _parse(gateway_pb2.ExecuteRequest, request)
            if message.is_retry and not message.command_id:
                raise InvalidArgument("a retry has the id that was sent before", field="command_id")
            command_id = message.command_id or self._host.runtime.entropy.new_id()
            if len(command_id) > self._limits.max_command_id_characters:
                raise InvalidArgument(
                    f"longer than {self._limits.max_command_id_characters} characters", field="command_id"
                )
            method = self._method(message.service, message.method, "command")
            arguments, encoding = decode_arguments(
                method.arguments, message.arguments, max_bytes=self._limits.max_arguments_bytes
            )
            command = self._host.command(method.name)
            with deadline_at(self._deadline_s(context, share=_OF_A_COMMAND)):
                invocation = command.invocation(arguments, command_id, is_retry=message.is_retry)
            was_recorded = False

            async def run() -> bytes:
                nonlocal was_recorded
                result = await _outcome(method.name, self._carry_out(invocation))
                was_recorded = result.is_replayed
                try:
                    return encode_payload(method, result.value, encoding).SerializeToString()
                except ResourceExhausted:
                    raise
                except BaseException as error:
                    reraise_outside(error)
                    words = in_words(error)
                    raise ResultEncodingError(f"{method.name} gave a result that cannot be sent: {words}") from error

            same = encoding.encode() + method.fingerprint(arguments)
            payload, is_replayed = await self._executions.run(command_id, same, run)
            result = gateway_pb2.Payload.FromString(payload)
            is_replayed = is_replayed or was_recorded
            return gateway_pb2.ExecuteReply(result=result, replayed=is_replayed).SerializeToString()
        except asyncio.CancelledError:
            if is_being_cancelled():
                raise
            doubt = CommandOutcomeUnknown("the gateway is stopping: ask again under the same id", retry_after_s=0.1)
            return await _abort(context, failure_status(doubt, "Execute"))
        except Exception as error:
            return await _abort(context, _status(error, "Execute"))

    async def describe(self, request: bytes, context: Context) -> bytes:
        """`Describe`: services, methods, argument and result types."""
        try:
            return describe(self._host.app, _parse(gateway_pb2.DescribeRequest, request).service).SerializeToString()
        except Exception as error:
            return await _abort(context, _status(error, "Describe"))

    # -- life
    @property
    def watch_count(self) -> int:
        """How many watches are open."""
        return len(self._watches)

    def end_watches(self) -> None:
        """End every watch with UNAVAILABLE, and refuse new ones."""
        if not self._is_stopping:
            self._is_stopping = True
            for task in self._watches:
                task.cancel()

    async def end_commands(self, grace_s: float) -> None:
        """Wait for the running commands, at most for `grace_s` seconds; then cancel them."""
        await self._executions.close(grace_s)

    def _deadline_s(self, context: Context, share: float = 1.0) -> float:
        """Return until when a call may go on, on the host's clock; infinite: the client sets no limit.

        Args:
            context: the context of the rpc.
            share: the part of the remaining time that the call may take.
        """
        left_s = context.time_remaining()
        return NO_DEADLINE if left_s is None else self._host.runtime.clock.monotonic() + share * left_s

    # -- resolving
    def _resolve(self, request: gateway_pb2.CallRequest) -> Read:
        method = self._method(request.service, request.method, "compute")
        arguments, encoding = decode_arguments(
            method.arguments, request.arguments, max_bytes=self._limits.max_arguments_bytes
        )
        return Read(self._host.function(method.name), arguments, encoding)

    def _method(self, service: str, name: str, kind: MethodKind) -> Method:
        method = self._host.app.methods.method(service, name)
        if method.kind != kind:
            hint = "a command: use Execute" if kind == "compute" else "not a command: use Call or Watch"
            raise UnknownMethod(f"{method.name} is {hint}", field="method")
        return method


def _arrive(context: Context) -> None:
    """Take the trace of a call, and clear the principal: the one that started the gateway is not the caller's."""
    metadata = context.invocation_metadata() or ()
    arrive({key: value for key, value in metadata if key in TRACE and isinstance(value, str)}, is_trusted=False)


async def _outcome(name: str, awaitable: Awaitable[T]) -> T:
    """Return the result of a computation or command; raise its error as `MethodError`."""
    try:
        return await awaitable
    except asyncio.CancelledError as error:
        if is_being_cancelled():
            raise
        raise MethodError from body_cancelled(name, error)
    except Exception as error:
        raise MethodError from error
    except BaseException as error:  # from a class of its result, when it was made
        raise MethodError from body_exited(f"the result of {name}", error)


def _parse(message: type[M], request: bytes) -> M:
    try:
        return message.FromString(request)
    except DecodeError as error:
        raise InvalidArgument(f"the request is not a {message.DESCRIPTOR.name}", field="request") from error


def _stopping() -> ShardUnavailable:
    return ShardUnavailable("the gateway is stopping: connect again", retry_after_s=0.1)


def _status(error: Exception, method: str) -> status_pb2.Status:
    if isinstance(error, MethodError) and error.__cause__ is not None:
        return failure_status(error.__cause__, method)
    if isinstance(error, FusionError):
        return failure_status(error, method)
    return internal_status(error, method)


async def _abort(context: Context, status: status_pb2.Status) -> NoReturn:
    await context.abort_with_status(rpc_status.to_status(status))
    raise AssertionError("abort raises")
