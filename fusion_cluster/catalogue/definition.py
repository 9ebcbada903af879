"""What may be a service method, and what a service class may hold: said when it is defined, not when it is called.

A decorator above ours hides the service method from its class: the class would have a plain function, a class method or
a property, and each call would run the body, uncached, unrecorded, unseen by other processes. So a service class that
holds something which leads to a service method, without being it, is refused.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Final, cast

from fusion_cluster.errors import UsageError

if TYPE_CHECKING:
    from fusion_cluster.catalogue.service import ServiceMethod

_RESERVED: Final = frozenset({"database", "service_name", "shard_group", "compute_defaults"})
"""What a service has by these names is set by its class or its host."""

MAX_WRAPPERS: Final = 100
"""How many wrappers around each other are looked into: some go round in circles."""


def is_service_method(member: object) -> bool:
    """Tell whether a member of a class is what one of our decorators leaves there."""
    return getattr(type(member), "is_service_method", False) is True


def require_body(body: Any, decorator: str, *, takes_plain_def: bool) -> None:
    """Check that `body` can be a service method.

    Args:
        body: what was decorated.
        decorator: by what, for messages: "compute_method".
        takes_plain_def: it may be a plain `def` as well as an `async def`.

    Raises:
        UsageError: it cannot; the message says what it is, and what to write instead.
    """
    name = _name_of(body)
    what = _instead_of_a_method(body)
    if what:
        raise UsageError(f"@{decorator} on {name}, which is {what}")
    if inspect.isgeneratorfunction(body) or inspect.isasyncgenfunction(body):
        raise UsageError(f"{name} is a generator, which gives no value: return a tuple or a list")
    if inspect.iscoroutinefunction(body):
        return
    if not takes_plain_def:
        raise UsageError(f"@{decorator}: {name} must be an async def")
    if inspect.iscoroutinefunction(inspect.unwrap(body)):
        raise UsageError(
            f"{name} must be an async def: it is one, but a decorator beneath @{decorator} puts a plain def around it"
        )


def _instead_of_a_method(body: Any) -> str:
    """What something is that cannot be a method; "" if it can be one."""
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


def require_class(cls: type) -> None:
    """Check what a service class holds, itself and by the classes mixed into it.

    Raises:
        UsageError: a service method under two names or under a name that has another meaning, or one that is hidden in
            something else.
    """
    names: dict[ServiceMethod, str] = {}
    for name, member in _members(cls).items():
        if is_service_method(member):
            if name in _RESERVED:
                raise UsageError(f"{cls.__name__}.{name}: a service has something else by this name", field=name)
            other = names.setdefault(member, name)
            if other != name:
                raise UsageError(
                    f"{cls.__name__}.{name} is {cls.__name__}.{other} under another name: write a method that calls it",
                    field=name,
                )
        elif (hidden := _hidden_in(member)) is not None:
            around, ours = type(member).__name__, hidden.decorator
            raise UsageError(
                f"{cls.__name__}.{name} is a {around} around a {ours}, which is hidden by it and never cached or "
                f"recorded: write @{ours} above all others, on an async def with self",
                field=name,
            )


def abstract_methods(cls: type, methods: dict[str, ServiceMethod]) -> list[str]:
    """Return the names of what a class declares and leaves to its subclasses."""
    declared = set(getattr(cls, "__abstractmethods__", ()))
    return sorted(declared | {name for name, method in methods.items() if method.__isabstractmethod__})


# -- inside ------------------------------------------------------------------------------------------------------------
def _members(cls: type) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for base in reversed(cls.__mro__[:-1]):
        members.update(base.__dict__)
    return members


def _hidden_in(member: Any) -> ServiceMethod | None:
    """The service method that something is wrapped around, if there is one."""
    if isinstance(member, type):
        return None
    for _ in range(MAX_WRAPPERS):
        member = _inside(member)
        if member is None or is_service_method(member):
            return cast("ServiceMethod | None", member)
    return None


def _inside(member: Any) -> Any:
    """What a wrapper is around; None if it is none."""
    if isinstance(member, (classmethod, staticmethod)):
        return member.__func__
    if isinstance(member, property):
        return member.fget
    if isinstance(member, (functools.cached_property, functools.partial, functools.partialmethod)):
        return member.func
    return getattr(member, "__dict__", {}).get("__wrapped__")


def _name_of(body: Any) -> str:
    if is_service_method(body):
        body = body.body
    name = getattr(body, "__qualname__", None) or getattr(_inside(body), "__qualname__", None)
    return str(name or repr(body))
