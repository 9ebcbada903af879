"""Measures in a process of its own: memory that nobody has used before, and an event loop of one's choice.

As a program: `python -m benchmarks.fresh_process MODULE:FUNCTION LOOP ARGUMENTS`, where the arguments are a JSON
object. It prints the figures as another one, on its last line.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import Awaitable, Callable
from typing import Literal

import uvloop

Loop = Literal["asyncio", "uvloop"]
Figures = dict[str, float]
RUN = {"asyncio": asyncio.run, "uvloop": uvloop.run}


async def in_a_fresh_process(
    measure: Callable[..., Awaitable[Figures]],
    *,
    loop: Loop = "asyncio",
    pure_python: bool = False,
    **arguments: float | str,
) -> Figures:
    """Return what `await measure(**arguments)` gives in a fresh process.

    Args:
        measure: an async function of a module.
        loop: whose event loop it runs on.
        pure_python: without the hot path in C.
        arguments: what JSON can carry.

    Raises:
        RuntimeError: it failed there; its traceback has been printed.
    """
    name = f"{measure.__module__}:{measure.__qualname__}"
    command = [sys.executable, "-m", "benchmarks.fresh_process", name, loop, json.dumps(arguments)]
    environment = os.environ | ({"FUSION_PURE_PYTHON": "1"} if pure_python else {})
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, env=environment)
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise RuntimeError(f"{name} ended with code {process.returncode} in its process")
    figures: Figures = json.loads(output.splitlines()[-1])
    return figures


async def _measured(name: str, arguments: str) -> Figures:
    module, _, function = name.partition(":")
    measure: Callable[..., Awaitable[Figures]] = getattr(importlib.import_module(module), function)
    return await measure(**json.loads(arguments))


if __name__ == "__main__":
    print(json.dumps(RUN[sys.argv[2]](_measured(sys.argv[1], sys.argv[3]))))
