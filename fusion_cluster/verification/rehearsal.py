"""Runs the body of a compute method only to see what it returns now.

Invariant: nothing is captured, kept or noted: no node, edge or event of the graph comes from the run itself. What the
body reads it reads as any caller does, from the cache where it is there.
"""

from __future__ import annotations

import asyncio
from typing import Any

from msgspec.json import decode

from fusion_cluster.failures.exits import body_cancelled, body_exited
from fusion_cluster.graph import ComputeFunction
from fusion_cluster.graph.core.context import detached_context, is_rehearsing
from fusion_cluster.runtime import Runtime
from fusion_cluster.runtime.baggage import current_principal
from fusion_cluster.runtime.deadline import deadline_at


async def rehearse(function: ComputeFunction, arguments: tuple[Any, ...], *, timeout_s: float, runtime: Runtime) -> Any:
    """Return what the body of a method returns for canonical arguments, on behalf of the principal of its variant.

    Args:
        function: the method, or its variant for one principal.
        arguments: the arguments.
        timeout_s: how long it may take.
        runtime: runs it, in a task and a context of its own.

    Raises:
        TimeoutError: it took too long.
        Exception: the error of the body.
    """
    body = function.source or function
    context = detached_context()
    context.run(is_rehearsing.set, True)
    if function.principal is not None:
        context.run(current_principal.set, decode(function.principal))

    async def run() -> Any:
        try:
            with deadline_at(runtime.clock.monotonic() + timeout_s):
                return await body.compute(arguments)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise body_cancelled(function.name, error) from error
        except Exception:
            raise
        except BaseException as error:
            raise body_exited(function.name, error) from error

    async with asyncio.timeout(timeout_s):
        return await runtime.create_task(run(), name=f"verify {function.name}", context=context)
