"""Exceptions that are hard to keep as they are, each made by a function of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import pydantic


@dataclass(frozen=True)
class Frozen(Exception):
    """Nothing of it can be set, not even by Python's own `contextlib`."""

    code: int


@dataclass(frozen=True, slots=True)
class FrozenSlots(Exception):
    code: int


class Slotted(Exception):
    __slots__ = ("code", "unset")

    def __init__(self, code: int) -> None:
        self.code = code


class WithoutDict(Exception):
    __slots__ = ()

    @property
    def __dict__(self) -> NoReturn:  # type: ignore[override]
        raise TypeError("there is none")


class Immovable(Exception):
    """Its traceback is its own business."""

    @property
    def __traceback__(self) -> None:  # type: ignore[override]
        return None

    def with_traceback(self, _traceback: object) -> NoReturn:
        raise TypeError("not mine")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(name)


class RefusingInit(Exception):
    def __init__(self, *arguments: object, allowed: bool = False) -> None:
        if not allowed:
            raise RuntimeError("made once only")
        super().__init__("made", *arguments)


class ChangingInit(Exception):
    def __init__(self, count: int) -> None:
        super().__init__(f"{count + 1} things")
        self.count = count + 1


class Required(Exception):
    def __init__(self, sku: str, *, shelf: int) -> None:
        super().__init__()
        self.sku = sku
        self.shelf = shelf


class Unspeakable(Exception):
    """Raises in whatever it is asked."""

    def _refuse(self, *_: object) -> Any:
        raise RuntimeError("no")

    __str__ = __repr__ = __eq__ = __reduce__ = __reduce_ex__ = __len__ = __bool__ = _refuse
    __hash__ = None  # type: ignore[assignment]

    def __getattr__(self, name: str) -> NoReturn:
        raise RuntimeError(name)


class Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__(lambda: 1)
        self.way = lambda: 2


class Failures(ExceptionGroup[Exception]):
    def derive(self, excs: Sequence[Exception], /) -> Failures:  # type: ignore[override]
        return Failures("derived", excs)


class Odd(BaseException):
    """Not an `Exception` at all."""


def _noted() -> Exception:
    error = LookupError("not there")
    error.add_note("look elsewhere")
    return error


def _local() -> Exception:
    class LocalError(Exception):
        pass

    return LocalError("from here")


def _of_json() -> Exception:
    try:
        json.loads("{")
    except ValueError as error:
        return error
    raise AssertionError


def _of_pydantic() -> Exception:
    try:
        pydantic.TypeAdapter(int).validate_python("x")
    except ValueError as error:
        return error
    raise AssertionError


def _of_group() -> Exception:
    return ExceptionGroup("two", [ValueError("one"), ExceptionGroup("inner", [KeyError("two"), Frozen(3)])])


EXCEPTIONS: dict[str, Callable[[], Exception]] = {
    "frozen": lambda: Frozen(3),
    "frozen slots": lambda: FrozenSlots(3),
    "slots": lambda: Slotted(3),
    "without __dict__": WithoutDict,
    "immovable": Immovable,
    "refusing __init__": lambda: RefusingInit(1, allowed=True),
    "changing __init__": lambda: ChangingInit(3),
    "required arguments": lambda: Required("nut", shelf=3),
    "unspeakable": Unspeakable,
    "unpicklable": Unpicklable,
    "local class": _local,
    "group": _of_group,
    "own group": lambda: Failures("own", [ValueError(1)]),
    "with a note": _noted,
    "os error": lambda: FileNotFoundError(2, "no such file", "a.txt"),
    "time-out": lambda: TimeoutError("late"),
    "unicode": lambda: UnicodeDecodeError("ascii", b"\xff", 0, 1, "no"),
    "stop async": lambda: StopAsyncIteration(3),
    "json": _of_json,
    "pydantic": _of_pydantic,
}
"""An `Exception` of each odd kind."""

EXITS: dict[str, Callable[[], BaseException]] = {
    "SystemExit": lambda: SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "BaseExceptionGroup": lambda: BaseExceptionGroup("bad", [SystemExit(1)]),
    "Odd": Odd,
}
"""What is not an `Exception`, by the name of its class."""


def state_of(error: BaseException) -> tuple[Any, ...]:
    """What makes an exception what it is, whatever its class hides."""
    attributes = dict(BaseException.__dict__["__dict__"].__get__(error))
    slots = {name: getattr(error, name) for name in ("code", "errno", "filename", "start") if _has(error, name)}
    members = [state_of(member) for member in error.exceptions] if isinstance(error, BaseExceptionGroup) else []
    arguments = None if members else BaseException.__dict__["args"].__get__(error)
    return type(error), arguments, attributes, slots, members


def _has(error: BaseException, name: str) -> bool:
    try:
        getattr(error, name)
    except Exception:
        return False
    return True
