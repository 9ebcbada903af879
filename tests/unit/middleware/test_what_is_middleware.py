"""An app says at once what is not middleware."""

from __future__ import annotations

from functools import partial
from typing import Any
from unittest.mock import AsyncMock

import pytest

from fusion_cluster import App, Call, Middleware, Next, UsageError


class Fine:
    async def __call__(self, call: Call, next: Next) -> Any:
        return await next(call)

    async def method(self, call: Call, next: Next) -> Any:
        return await next(call)

    async def with_more(self, more: int, call: Call, next: Next) -> Any:
        return await next(call)


class Plain:
    def __call__(self, call: Call, next: Next) -> Any:
        return next(call)


class Narrow:
    async def __call__(self, call: Call) -> Any:
        return None


async def generating(call: Call, next: Next) -> Any:
    yield await next(call)


def plain(call: Call, next: Next) -> Any:
    return next(call)


FULL: Any = partial(Fine().method, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("one", [Fine(), Fine().method, partial(Fine().with_more, 3), partial(Fine()), AsyncMock()])
def test_whatever_can_be_called_like_one_is_middleware(one: Middleware) -> None:
    App("fine", middleware=[one])


@pytest.mark.parametrize(
    ("one", "message"),
    [
        (Fine, "Fine is a class: give an instance of it"),
        (Plain(), "Plain must be an async def, or have an async def __call__"),
        (plain, "plain must be an async def"),
        (generating, "generating must be an async def"),
        (Narrow(), "Narrow must take two arguments: call and next"),
        (FULL, "must take two arguments"),
        (3, "int is not middleware: it cannot be called"),
        (None, "NoneType is not middleware"),
    ],
)
def test_what_is_none_is_told_why(one: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        App("faulty", middleware=[Fine(), one])
    assert caught.value.field == "middleware"
