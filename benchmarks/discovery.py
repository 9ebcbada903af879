"""Finds benchmarks by name and runs them."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import benchmarks
from benchmarks.row import Row

Say = Callable[[str], None]


def benchmark_names() -> list[str]:
    """Return the names of all benchmarks: the modules that define `run`. Imports none of them."""
    folder = Path(benchmarks.__path__[0])
    modules = (module.name for module in pkgutil.iter_modules([str(folder)]) if not module.ispkg)
    return sorted(name for name in modules if _defines_run((folder / f"{name}.py").read_text("utf-8")))


async def rows_of(name: str, say: Say, *, quick: bool = False) -> AsyncIterator[Row]:
    """Run a benchmark; give its rows as they come.

    Args:
        name: one of `benchmark_names()`.
        say: told what is being measured; for a `run` that has a parameter of this name.
        quick: with sizes so small that the figures mean little; likewise.
    """
    run = importlib.import_module(f"benchmarks.{name}").run
    offered = {"say": say, "quick": quick}
    result = run(**{name: offered[name] for name in inspect.signature(run).parameters})
    if inspect.isawaitable(result):
        result = await result
    if hasattr(result, "__aiter__"):
        async for row in result:
            yield row
    else:
        for row in result:
            yield row


def _defines_run(source: str) -> bool:
    return any(
        isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == "run"
        for node in ast.parse(source).body
    )
