"""`async with` blocks made of generators, which leave the exceptions that pass through them alone.

`contextlib.asynccontextmanager` sets `__traceback__` of each, and where that cannot be set (a frozen dataclass) the
exception is replaced by the error of setting it. What is written here does the same from below.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import wraps
from types import TracebackType
from typing import Generic, ParamSpec, TypeVar, cast

from fusion_cluster.graph.exits import TRACEBACK

P = ParamSpec("P")
T = TypeVar("T")


def async_block(function: Callable[P, AsyncIterator[T]], /) -> Callable[P, AbstractAsyncContextManager[T]]:
    """Make of a generator function with one `yield` a function that returns what `async with` takes."""

    @wraps(function)
    def make(*args: P.args, **kwargs: P.kwargs) -> AbstractAsyncContextManager[T]:
        return _Block(cast("AsyncGenerator[T, None]", function(*args, **kwargs)))

    return make


class _Block(AbstractAsyncContextManager[T], Generic[T]):
    def __init__(self, generator: AsyncGenerator[T, None]) -> None:
        self._generator = generator

    async def __aenter__(self) -> T:
        return await anext(self._generator)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if error is None:
            try:
                await anext(self._generator)
            except StopAsyncIteration:
                return False
        else:
            try:
                await self._generator.athrow(error)
            except StopAsyncIteration as ended:
                return ended is not error
            except BaseException as raised:
                is_wrapped = isinstance(raised, RuntimeError) and raised.__cause__ is error
                if raised is error or (is_wrapped and isinstance(error, StopIteration | StopAsyncIteration)):
                    TRACEBACK.__set__(error, traceback)
                    return False
                raise
        raise RuntimeError("a block has more than one yield")
