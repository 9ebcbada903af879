"""`async with` blocks made of generators. They do not change the exceptions that pass through them.

`contextlib.asynccontextmanager` sets `__traceback__` of each exception. Where that cannot be set (a frozen dataclass),
the error of setting it replaces the exception. The code here sets it by `BaseException`'s own descriptor, which works
for every class.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import wraps
from types import TracebackType
from typing import Generic, NoReturn, ParamSpec, TypeVar, cast

from fusion_cluster.errors import UsageError
from fusion_cluster.failures.exits import TRACEBACK

P = ParamSpec("P")
T = TypeVar("T")


def async_block(function: Callable[P, AsyncIterator[T]], /) -> Callable[P, AbstractAsyncContextManager[T]]:
    """Turn a generator function with one `yield` into a function that returns an async context manager."""

    @wraps(function)
    def make(*args: P.args, **kwargs: P.kwargs) -> AbstractAsyncContextManager[T]:
        return _Block(cast("AsyncGenerator[T, None]", function(*args, **kwargs)), function.__name__)

    return make


class _Block(AbstractAsyncContextManager[T], Generic[T]):
    def __init__(self, generator: AsyncGenerator[T, None], name: str) -> None:
        self._generator = generator
        self._name = name
        self._was_entered = False

    def __repr__(self) -> str:
        return f"<{self._name}(...), for `async with`>"

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        raise UsageError(f"{self._name}() itself does not have {name}: use `async with {self._name}(...) as host`")

    def __enter__(self) -> NoReturn:
        raise UsageError(f"{self._name}() is entered by `async with`, not by `with`; without a loop use blocking()")

    def __exit__(self, *exit_info: object) -> None: ...

    def __await__(self) -> NoReturn:
        raise UsageError(f"{self._name}() is not awaited: use `async with {self._name}(...) as host`")

    async def __aenter__(self) -> T:
        if self._was_entered:
            raise UsageError(f"{self._name}() is entered once: call it again for another one")
        self._was_entered = True
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
