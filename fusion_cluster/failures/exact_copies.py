"""Exact copies of exceptions: one for each caller that an error is given to.

Python writes into an exception object as it is raised: the traceback grows by the frames of whoever it passes, and what
is being handled there becomes its context. So an error that several callers are given must be an object for each; else
one caller's frames, and all they hold, are kept alive by the error, and seen by the next one.

No code of a class written in Python runs: the copy is made and filled from below. So it does not matter what the class
has made of `__init__`, `__setattr__` or `__reduce__`. Classes written in C are asked by way of `copy.copy`.
"""

from __future__ import annotations

from collections.abc import Hashable
from copy import copy as duplicate
from functools import lru_cache
from types import GetSetDescriptorType, MemberDescriptorType, TracebackType
from typing import Any, Final, TypeVar, cast

from fusion_cluster.failures.exits import TRACEBACK

E = TypeVar("E", bound=BaseException)

ARGS: Final[Any] = BaseException.__dict__["args"]
CAUSE: Final[Any] = BaseException.__dict__["__cause__"]
CONTEXT: Final[Any] = BaseException.__dict__["__context__"]
ATTRIBUTES: Final[Any] = BaseException.__dict__["__dict__"]
SUPPRESSES_CONTEXT: Final[Any] = BaseException.__dict__["__suppress_context__"]
MESSAGE: Final[Any] = BaseExceptionGroup.__dict__["message"]
MEMBERS: Final[Any] = BaseExceptionGroup.__dict__["exceptions"]
"""What every exception, or group, has, whatever its class has made of the names."""

MAX_COPIED: Final = 1_000
"""How many exceptions of a group, and of groups in it, are copied; all callers share the others."""

_HEAP_TYPE: Final = 1 << 9
_POINTER_BYTES: Final = 8
_DESCRIPTORS: Final = (MemberDescriptorType, GetSetDescriptorType)


class _Way:
    """How exceptions of one class are copied.

    Attributes:
        base: the nearest class that is not written in Python.
        fields: descriptors of what an exception of the class has besides its arguments and its `__dict__`, and of each
            whether None says that it is not set.
        is_group: its members are given when it is made.
    """

    __slots__ = ("base", "fields", "is_group")

    def __init__(self, base: type[BaseException], fields: tuple[tuple[Any, bool], ...]) -> None:
        self.base = base
        self.fields = fields
        self.is_group = issubclass(base, BaseExceptionGroup)


def exact_copy(error: E) -> E | None:
    """Return another exception of the same class that says the same; it has not been raised yet.

    The values of attributes are shared, notes and the members of groups are copied. None: it cannot be copied exactly,
    for its class does something when one is freed, or has what is not seen from here.
    """
    return _copy(error, MAX_COPIED)


def _copy(error: E, budget: int) -> E | None:
    cls = type(error)
    try:
        way = _way_of(cast("Hashable", cls))
        copy: Any
        if way is None:
            copy = _made_by_itself(error)
            if copy is None:
                return None
        elif way.is_group:
            copy = _group(error, way, budget)
        else:
            copy = way.base.__new__(cls)
        if way is None or not way.is_group:
            ARGS.__set__(copy, ARGS.__get__(error))
        for field, is_optional in way.fields if way is not None else ():
            try:
                value = field.__get__(error)
            except AttributeError:  # it is not set
                continue
            if value is not None or not is_optional:
                field.__set__(copy, value)
    except Exception:  # of a class that has found a way to be odder than is thought of here
        return None
    attributes = ATTRIBUTES.__get__(error)
    if attributes:
        attributes = attributes.copy()
        notes = attributes.get("__notes__")
        if type(notes) is list:
            attributes["__notes__"] = notes.copy()
        ATTRIBUTES.__set__(copy, attributes)
    return cast("E", copy)


def is_same(error: BaseException, copy: BaseException) -> bool:
    """Tell whether a copy of `error` is as it was made. Of groups this is not told."""
    way = _way_of(cast("Hashable", type(error)))
    if way is None or way.is_group or ARGS.__get__(error) is not ARGS.__get__(copy):
        return False
    mine, other = ATTRIBUTES.__get__(error), ATTRIBUTES.__get__(copy)
    return mine.keys() == other.keys() and all(
        value is other[name] or (name == "__notes__" and value == other[name]) for name, value in mine.items()
    )


Surroundings = tuple[TracebackType | None, BaseException | None, BaseException | None, bool]
"""What Python writes into an exception: its traceback, its context, its cause, and whether the context is not shown."""


def surroundings_of(error: BaseException) -> Surroundings:
    """Return them, whatever the class has made of their names."""
    return TRACEBACK.__get__(error), CONTEXT.__get__(error), CAUSE.__get__(error), SUPPRESSES_CONTEXT.__get__(error)


def set_surroundings(
    error: BaseException,
    traceback: TracebackType | None,
    context: BaseException | None,
    cause: BaseException | None,
    suppresses_context: bool,
) -> None:
    """Set them; for that no code of the class is run."""
    TRACEBACK.__set__(error, traceback)
    CONTEXT.__set__(error, context)
    CAUSE.__set__(error, cause)
    SUPPRESSES_CONTEXT.__set__(error, suppresses_context)  # setting a cause has set it


def _made_by_itself(error: BaseException) -> BaseException | None:
    """Return the copy that a class written in C makes of its exceptions, if it is as good as the original."""
    if hasattr(type(error), "__del__"):
        return None
    made = duplicate(error)
    is_good = type(made) is type(error) and made is not error and (str(made), repr(made)) == (str(error), repr(error))
    return made if is_good else None


def _group(group: Any, way: _Way, budget: int) -> Any:
    members = MEMBERS.__get__(group)
    left = budget - len(members)
    copies = [_member(member, left // len(members)) if left > 0 else member for member in members]
    given = ARGS.__get__(group)
    is_list = len(given) == 2 and type(given[1]) is list
    return way.base.__new__(type(group), MESSAGE.__get__(group), copies if is_list else tuple(copies))


def _member(member: BaseException, budget: int) -> BaseException:
    copy = _copy(member, budget)
    if copy is None:
        return member
    set_surroundings(copy, *surroundings_of(member))
    return copy


@lru_cache(256)
def _way_of(cls: Any) -> _Way | None:
    """Return how exceptions of a class are copied; None: they cannot be."""
    fields: list[tuple[Any, bool]] = []
    base: type[BaseException] | None = None
    for ancestor in type.mro(cls):
        if ancestor is BaseException:
            break
        own = vars(ancestor)
        if ancestor.__flags__ & _HEAP_TYPE:
            slots = [item for item in own.values() if type(item) is MemberDescriptorType]
            if "__del__" in own or not _is_all(ancestor, len(slots)):
                return None
            fields += [(slot, False) for slot in slots]
        elif ancestor.__module__ == "builtins":
            base = base or ancestor
            if not issubclass(ancestor, BaseExceptionGroup):
                fields += [(item, True) for item in own.values() if isinstance(item, _DESCRIPTORS)]
        elif ancestor.__basicsize__ != getattr(ancestor.__base__, "__basicsize__", 0):
            return None
    return None if base is None and cls is not BaseException else _Way(base or BaseException, tuple(fields))


def _is_all(cls: type, slot_count: int) -> bool:
    """Tell whether so many slots are all that instances of a class have in addition to those of its base."""
    base = cls.__base__ or object
    rest = cls.__basicsize__ - base.__basicsize__ - _POINTER_BYTES * slot_count
    has_references = cls.__weakrefoffset__ != base.__weakrefoffset__
    return rest == 0 or (rest == _POINTER_BYTES and has_references)


def parts_of(error: BaseException) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]] | None:
    """Return what an exception holds: its arguments, attributes, and other fields. None: it has more than is seen."""
    way = _way_of(cast("Hashable", type(error)))
    if way is None or way.is_group:
        return None
    fields: dict[str, Any] = {}
    for field, is_optional in way.fields:
        try:
            value = field.__get__(error)
        except AttributeError:  # it is not set
            continue
        if value is not None or not is_optional:
            fields[field.__name__] = value
    return ARGS.__get__(error), ATTRIBUTES.__get__(error), fields


def filled(
    cls: type[BaseException], arguments: tuple[Any, ...], attributes: dict[str, Any], fields: dict[str, Any]
) -> BaseException | None:
    """Return an exception of a class that holds these; None if such cannot be made from below."""
    way = _way_of(cast("Hashable", cls))
    if way is None or way.is_group:
        return None
    error = way.base.__new__(cls)
    ARGS.__set__(error, arguments)
    ATTRIBUTES.__set__(error, attributes)
    for field, _ in way.fields:
        if field.__name__ in fields:
            field.__set__(error, fields[field.__name__])
    return error
