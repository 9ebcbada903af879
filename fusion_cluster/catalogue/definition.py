"""Says what may be a service method, when it is defined and not when it is called."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from fusion_cluster.errors import UsageError


def is_service_method(member: object) -> bool:
    """Tell whether a member of a class was made by one of our decorators."""
    return getattr(type(member), "is_service_method", False) is True


def require_body(body: Any, decorator: str, *, takes_plain_def: bool) -> None:
    """Check that `body` can be a service method.

    Args:
        body: what was decorated.
        decorator: name of the decorator, for messages: "compute_method".
        takes_plain_def: it may be a plain `def` as well as an `async def`.

    Raises:
        UsageError: it cannot; the message says what it is, and what to write instead.
    """
    name = _name_of(body)
    what = _instead_of_a_method(body)
    if what:
        raise UsageError(f"@{decorator} on {name}, which is {what}")
    if inspect.isgeneratorfunction(body) or inspect.isasyncgenfunction(body):
        raise UsageError(f"{name} is a generator and has no single result: return a tuple or a list")
    if inspect.iscoroutinefunction(body):
        return
    if not takes_plain_def:
        raise UsageError(f"@{decorator}: {name} must be an async def")
    if inspect.iscoroutinefunction(inspect.unwrap(body)):
        raise UsageError(
            f"{name} must be an async def: it is one, but a decorator beneath @{decorator} puts a plain def around it"
        )


def _instead_of_a_method(body: Any) -> str:
    """Say what kind of thing the body is, and what to write instead; "" if it can be a method."""
    if isinstance(body, (classmethod, staticmethod)):
        kind = type(body).__name__
        return f"a {kind}: a result belongs to an instance of the service, so it must be an async def with self"
    if isinstance(body, (property, functools.cached_property)):
        return "a property: it must be an async def, which callers await"
    if isinstance(body, (functools.partial, functools.partialmethod)):
        return "a partial: it must be an async def that calls what the partial calls"
    if is_service_method(body):
        return f"a {body.decorator} already: a method is one or the other, once"
    if isinstance(body, type):
        return "a class: it must be an async def, a method of a class derived from ComputeService"
    if inspect.isfunction(body):
        return "a lambda: it must be an async def, a method with a name" if body.__name__ == "<lambda>" else ""
    if inspect.ismethod(body) or inspect.isbuiltin(body):
        return "bound, or not written in Python: it must be an async def with self"
    return "not a function: it must be an async def, and options are given by name"


def inside(member: Any) -> Any:
    """Return what a wrapper is around; None if it is not a wrapper."""
    if isinstance(member, (classmethod, staticmethod)):
        return member.__func__
    if isinstance(member, property):
        return member.fget
    if isinstance(member, (functools.cached_property, functools.partial, functools.partialmethod)):
        return member.func
    return getattr(member, "__dict__", {}).get("__wrapped__")


# -- inside ------------------------------------------------------------------------------------------------------------
def _name_of(body: Any) -> str:
    if is_service_method(body):
        body = body.body
    name = getattr(body, "__qualname__", None) or getattr(inside(body), "__qualname__", None)
    return str(name or repr(body))
