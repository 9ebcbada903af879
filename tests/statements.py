"""What SQLAlchemy sends to databases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.engine.interfaces import CacheStats


class Statement:
    """One statement as the database got it.

    Attributes:
        text: the SQL.
        parameters: what it was given.
        is_compiled_anew: SQLAlchemy had no such statement in its cache.
    """

    def __init__(self, text: str, parameters: Any, context: Any) -> None:
        self.text = text
        self.parameters: tuple[Any, ...] = tuple(parameters)
        self.is_compiled_anew = context.cache_hit is not CacheStats.CACHE_HIT

    def __repr__(self) -> str:
        return self.text[:500]


@contextmanager
def statements() -> Iterator[list[Statement]]:
    """Note every statement that any engine of SQLAlchemy sends in this block.

    But for the looks at the operation log, which hosts take when they please.
    """
    sent: list[Statement] = []

    def on_execute(connection: object, cursor: object, text: str, parameters: Any, context: Any, is_many: bool) -> None:
        if "fusion_trimmed" not in text:
            sent.append(Statement(text, parameters, context))

    event.listen(Engine, "before_cursor_execute", on_execute)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", on_execute)
