"""Makes exceptions of the app's own classes again in another process of the cluster.

A class is looked up by its name among the modules that are imported already: nothing is imported for it, and no code
of the class runs. What is made is of a class that derives from it and from `RemoteError` (as Ray does it), so `except`
works as in the process where it was raised; those of Python itself are made as they are. Where the class is not known,
or what the exception holds does not travel, it arrives as a `RemoteError` that has its name.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Hashable
from functools import lru_cache
from typing import Any, Final, cast

from fusion_cluster import errors
from fusion_cluster.errors import FusionError, RemoteError
from fusion_cluster.failures.exact_copies import ATTRIBUTES, filled, parts_of
from fusion_cluster.wire.tagged import NotPlainError, decode_tagged, encode_tagged

NEVER_MADE: Final = (StopIteration, StopAsyncIteration)
"""Exceptions that Python itself turns into others when a coroutine raises them."""


def class_name(cls: type[BaseException]) -> str:
    """Return the name by which a class is found again; "" if it is not, being local, or of the main module."""
    name = f"{cls.__module__}:{cls.__qualname__}"
    return name if cls.__module__ != "__main__" and known_class(name) is cls else ""


def known_class(name: str) -> type[Exception] | None:
    """Return the class of exceptions of a name, if its module is imported here."""
    module_name, _, path = name.partition(":")
    found: Any = sys.modules.get(module_name)
    for part in path.split("."):
        namespace = getattr(found, "__dict__", None)  # no `getattr`, as modules may make what they are asked for
        found = namespace.get(part) if namespace is not None else None
    if not isinstance(found, type) or not issubclass(found, Exception) or issubclass(found, NEVER_MADE):
        return None
    return found


def original_class(error: BaseException) -> type[BaseException]:
    """Return the class of an exception where it was raised, as far as that is known here."""
    cls = type(error)
    return cast("type[BaseException]", vars(cls).get("_raised_class", cls))


def encoded_state(error: BaseException) -> bytes:
    """Return what an exception holds, as bytes.

    Raises:
        NotPlainError: that is not possible.
    """
    parts = parts_of(error)
    if parts is None:
        raise NotPlainError("it cannot be seen what it holds")
    arguments, attributes, fields = parts
    hidden = ("__notes__", *_OF_REMOTE) if issubclass(type(error), RemoteError) else ("__notes__",)
    return encode_tagged((arguments, {name: value for name, value in attributes.items() if name not in hidden}, fields))


_OF_REMOTE: Final = ("error_type", "field", "retry_after_s")


def made_again(name: str, state: bytes, remote: RemoteError) -> Exception | None:
    """Return an exception of the class of that name that holds what `state` says; None if that is not possible here.

    Args:
        name: see `class_name`.
        state: see `encoded_state`.
        remote: what it is for those who do not know the class.
    """
    cls = known_class(name)
    if cls is None:
        return None
    is_plain = cls.__module__ == builtins.__name__
    try:
        made: Any = cls if is_plain else remote_class(cast("Hashable", cls))
        arguments, attributes, fields = decode_tagged(state)
        error = filled(made, arguments, attributes if is_plain else {**vars(remote), **attributes}, fields)
    except (NotPlainError, TypeError, ValueError, AttributeError):
        return None
    return cast("Exception | None", error)


@lru_cache(256)
def remote_class(cls: Any) -> type[RemoteError]:
    """Return the class of exceptions of class `cls` that were raised in another process.

    Raises:
        TypeError: there cannot be one.
    """
    namespace: dict[str, Any] = {
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
        "__str__": cls.__str__,
        "_raised_class": cls,
    }
    if not issubclass(cls, FusionError):
        namespace["is_transient"] = getattr(cls, "is_transient", None)
    return cast("type[RemoteError]", type(cls.__name__, (cls, errors.RemoteError), namespace))


def attributes_of(error: BaseException) -> dict[str, Any]:
    """Return what is in the `__dict__` of an exception: the very dictionary."""
    return cast("dict[str, Any]", ATTRIBUTES.__get__(error))
