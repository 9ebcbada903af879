"""Values in texts for people: as they would be written, but never long, whatever they hold, and never an error."""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

from fusion_cluster.failures.exits import reraise_outside

MAX_CHARS: Final = 60
"""Of one value."""
_SHORT: Final = 10**15
MAX_ITEMS: Final = 6
"""Of one container, and of the arguments of a call."""


def abridged(value: object) -> str:
    """Return the `repr` of a value in at most `MAX_CHARS` characters."""
    if type(value) is int and -_SHORT < value < _SHORT:  # as most keys are; all that follows costs twenty times as much
        return repr(value)
    try:
        return _shorten(_ABRIDGING.repr(value))
    except BaseException as raised:  # of whatever else users have made of their classes
        reraise_outside(raised)
        return f"<{type(value).__name__}>"


def abridged_arguments(arguments: Iterable[object]) -> str:
    """Return arguments as they stand in a call, without the brackets around them."""
    taken = list(islice(arguments, MAX_ITEMS + 1))
    texts = [abridged(argument) for argument in taken[:MAX_ITEMS]]
    return ", ".join(texts if len(taken) <= MAX_ITEMS else [*texts, "…"])


class _Abridging(reprlib.Repr):
    """Looks into what it knows, so that the text of a large value is not made in order to be cut."""

    def repr_instance(self, x: Any, level: int) -> str:
        if isinstance(x, (bytes, bytearray, memoryview)):
            return repr(bytes(x[:MAX_CHARS]))
        for kind in (str, list, tuple, dict, set, frozenset):
            if isinstance(x, kind):
                text: str = getattr(self, f"repr_{kind.__name__}")(x, level)
                return text
        name = type(x).__name__
        fields = _fields_of(x)
        if fields is None:
            try:
                return repr(x)
            except BaseException as raised:  # of a `__repr__` of users
                reraise_outside(raised)
                return f"<{name}>"
        if level <= 0:
            return f"{name}(…)"
        shown = [f"{field}={self.repr1(value, level - 1)}" for field, value in islice(fields, MAX_ITEMS)]
        return f"{name}({', '.join(shown)})"


def _fields_of(x: object) -> Iterator[tuple[str, object]] | None:
    """Go through the fields that a data class, a msgspec Struct or a pydantic model shows; None for anything else."""
    kind: Any = type(x)
    if dataclasses.is_dataclass(x):
        return ((field.name, getattr(x, field.name, None)) for field in dataclasses.fields(x) if field.repr)
    names = getattr(kind, "__struct_fields__", None)
    if isinstance(names, tuple):
        return ((name, getattr(x, name, None)) for name in names)
    models = getattr(kind, "__pydantic_fields__", None)
    if isinstance(models, dict):
        return ((name, getattr(x, name, None)) for name, field in models.items() if getattr(field, "repr", True))
    return None


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_CHARS else f"{text[: MAX_CHARS - 2]}…{text[-1]}"


_ABRIDGING: Final = _Abridging()
_ABRIDGING.maxlevel = 3
_ABRIDGING.maxstring = _ABRIDGING.maxother = _ABRIDGING.maxlong = MAX_CHARS
