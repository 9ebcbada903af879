"""gRPC-aware timing: every rpc fires locust's `request` event by itself, streams once for each thing a user waits for.

A unary rpc is one event, of kind `call` or `execute`. A server stream is `watch` once, for the time to its first
update, then `gap` for the time since the update before. A stream that its user ends is no failure.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import grpc

from loadtest.payloads import request_name


class FireRequest(Protocol):
    """Locust's `events.request.fire`, as far as it is used here."""

    def __call__(
        self,
        *,
        request_type: str,
        name: str,
        response_time: float,
        response_length: int,
        response: object,
        exception: BaseException | None,
        context: dict[str, Any],
    ) -> None:
        """Report one request."""


class Timing(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Reports each rpc of the channel it is put on.

    Args:
        fire: locust's `events.request.fire`.
        clock: seconds, monotonic.
    """

    def __init__(self, fire: FireRequest, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._fire = fire
        self._clock = clock

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Report a unary rpc when it ends."""
        kind = str(client_call_details.method).rsplit("/", 1)[-1].lower()
        started = self._clock()
        call = continuation(client_call_details, request)
        # A failed call is an error that is returned, not raised; `exception` waits for it either way.
        error = call.exception()
        size = 0 if error is not None else call.result().ByteSize()
        self._report(kind, request_name(request), started, size, error)
        return call

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Report the updates of a stream as they are read."""
        started = self._clock()
        return TimedStream(self, continuation(client_call_details, request), request_name(request), started)

    def _report(self, kind: str, name: str, started: float, size: int, error: BaseException | None) -> float:
        now = self._clock()
        self._fire(
            request_type=kind,
            name=name,
            response_time=(now - started) * 1000.0,
            response_length=size,
            response=None,
            exception=error,
            context={},
        )
        return now


class TimedStream:
    """The updates of one server stream, each reported when it is there."""

    def __init__(self, timing: Timing, stream: Any, name: str, started: float) -> None:
        self._timing = timing
        self._stream = stream
        self._name = name
        self._waiting_since = started
        self._kind = "watch"

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            update = next(self._stream)
        except StopIteration:
            raise
        except grpc.RpcError as error:
            if not self._is_ended_by_its_user():
                self._timing._report(self._kind, self._name, self._waiting_since, 0, error)
            raise
        self._waiting_since = self._timing._report(self._kind, self._name, self._waiting_since, update.ByteSize(), None)
        self._kind = "gap"
        return update

    def _is_ended_by_its_user(self) -> bool:
        # Cancelled, or its time is over; but a stream that gave nothing in all its time has failed.
        code = self._stream.code()
        return code is grpc.StatusCode.CANCELLED or (code is grpc.StatusCode.DEADLINE_EXCEEDED and self._kind == "gap")

    def cancel(self) -> None:
        """End the stream from this side."""
        self._stream.cancel()
