"""Wraps the middleware of an app around the body of each method, once, when its service is attached to a host.

Invariants: without middleware a body does not change. A call passes from the first middleware to the last and then
reaches the body, all in the task and the context in which the body would run alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Coroutine, Mapping, Sequence
from functools import partial
from types import CoroutineType
from typing import Any

from fusion_cluster.catalogue.method import AsyncBody, Method
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.commands.context import current_command, is_nested
from fusion_cluster.errors import UsageError
from fusion_cluster.failures.failure import TransientClassifier
from fusion_cluster.middleware.call import Call, CarryingMiddleware, Middleware
from fusion_cluster.runtime.baggage import NO_BAGGAGE, current_baggage
from fusion_cluster.runtime.deadline import NO_DEADLINE


class MiddlewareStack:
    """Middleware in order, the outermost first (its `wrap` is a `bodies.offload.BodyWrapper`).

    Args:
        middleware: the middleware, the outermost first.
        is_transient: the app's classifier of errors.

    Raises:
        UsageError: one of them is not middleware; the message says why.
    """

    def __init__(self, middleware: Sequence[Middleware], is_transient: TransientClassifier) -> None:
        self._middleware = tuple(middleware)
        self._is_transient = is_transient
        for one in self._middleware:
            _require_middleware(one)
        self._carriers = [one.carried for one in self._middleware if isinstance(one, CarryingMiddleware)]

    def carried(self) -> Mapping[str, str]:
        """Return what the middleware adds to the calls that leave the process from this context: the trace."""
        if not self._carriers:
            return NO_BAGGAGE
        return {name: value for carrier in self._carriers for name, value in carrier().items()}

    def wrap(self, body: AsyncBody, method: Method, service: ComputeService) -> AsyncBody:
        """Return the body with the middleware around it; without middleware, the body itself.

        Args:
            body: is called with canonical arguments, those for keyword-only parameters by name.
            method: the method of the body.
            service: the instance that the body is bound to.
        """
        if not self._middleware:
            return body
        kind, service_name, method_name = method.kind, method.service_name, method.method_name
        names = method.signature.parameter_names

        def pass_through(*args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
            arguments = (*args, *(kwargs[name] for name in names[len(args) :])) if kwargs else args
            command = current_command.get() if kind != "compute" else None
            call = Call(
                *(kind, service, service_name, method_name, names, arguments),
                None if command is None else command.command_id,
                command is not None and is_nested.get(),
                current_baggage.get(),
                self._is_transient,
                NO_DEADLINE if command is None else command.invocation.deadline_s,
            )
            return _Passage(self._middleware, call, partial(body, *args, **kwargs)).run()

        return pass_through


class _Passage:
    """One call on its way through the middleware."""

    __slots__ = ("_body", "_call", "_has_ended", "_middleware")

    def __init__(self, middleware: tuple[Middleware, ...], call: Call, body: AsyncBody) -> None:
        self._middleware = middleware
        self._call = call
        self._body = body
        self._has_ended = False

    async def run(self) -> Any:
        try:
            return await self._pass(0, self._call)
        finally:
            self._has_ended = True

    async def _pass(self, index: int, call: Call) -> Any:
        """Continue at the middleware of that index, or at the body after the last one; `next` calls this."""
        if call is not self._call:
            raise UsageError(f"{self._call.name}: a middleware must pass on the call that it was given, not another")
        if self._has_ended:
            raise UsageError(f"{call.name}: a middleware has called next() after the call had ended")
        if index == len(self._middleware):
            return await self._body()
        middleware = self._middleware[index]
        result = await middleware(call, partial(self._pass, index + 1))
        if type(result) is CoroutineType:
            result.close()
            raise UsageError(
                f"{call.name}: the middleware {_name_of(middleware)} has returned a coroutine: "
                "it must be `return await next(call)`"
            )
        return result


def _require_middleware(one: object) -> None:
    """Check that an object can be called as middleware.

    Raises:
        UsageError: it cannot be called so; the message says why.
    """
    name = _name_of(one)
    if isinstance(one, type):
        raise UsageError(f"the middleware {name} is a class: give an instance of it", field="middleware")
    if not callable(one):
        raise UsageError(f"{name} is not middleware: it cannot be called", field="middleware")
    called: Any = one
    while isinstance(called, partial):
        called = called.func
    if not (inspect.iscoroutinefunction(called) or inspect.iscoroutinefunction(called.__call__)):
        raise UsageError(
            f"the middleware {name} must be an async def, or have an async def __call__", field="middleware"
        )
    try:
        inspect.signature(one).bind(None, None)
    except TypeError:
        raise UsageError(f"the middleware {name} must take two arguments: call and next", field="middleware") from None


def _name_of(one: object) -> str:
    named = one if hasattr(one, "__qualname__") else type(one)
    return str(getattr(named, "__qualname__", named))
