"""Finds the service methods of a class, and checks what else the class holds.

A decorator above ours hides the service method from its class: the class would have a plain function, a class method or
a property, and each call would run the body, uncached, unrecorded, unseen by other processes. So a service class that
holds something which leads to a service method, without being it, is refused when it is defined.
"""

from __future__ import annotations

from typing import Any, Final

from fusion_cluster.catalogue.definition import inside, is_service_method
from fusion_cluster.catalogue.service_method import ServiceMethod
from fusion_cluster.errors import UsageError

_RESERVED: Final = frozenset({"database", "service_name", "shard_group", "compute_defaults"})
"""Names that a service method cannot have: the class or its host sets what they mean."""

MAX_WRAPPERS: Final = 100
"""Number of wrappers, one inside the other, that are looked into. Some contain themselves."""


def service_methods(cls: type) -> dict[str, ServiceMethod]:
    """Return the service methods of a class by name, inherited ones included."""
    return {name: member for name, member in _members(cls).items() if isinstance(member, ServiceMethod)}


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
                raise UsageError(
                    f"{cls.__name__}.{name}: this name has another meaning in a service: choose another", field=name
                )
            other = names.setdefault(member, name)
            if other != name:
                raise UsageError(
                    f"{cls.__name__}.{name} is {cls.__name__}.{other} under another name: write a method that calls it",
                    field=name,
                )
        elif (hidden := _hidden_in(member)) is not None:
            around, ours = type(member).__name__, hidden.decorator
            raise UsageError(
                f"{cls.__name__}.{name} is a {around} around a {ours}, which hides it, so it is never cached or "
                f"recorded: write @{ours} above all others, on an async def with self",
                field=name,
            )


def abstract_methods(cls: type, methods: dict[str, ServiceMethod]) -> list[str]:
    """Return the names of the methods that a class declares and leaves to its subclasses."""
    declared = set(getattr(cls, "__abstractmethods__", ()))
    return sorted(declared | {name for name, method in methods.items() if method.__isabstractmethod__})


# -- inside ------------------------------------------------------------------------------------------------------------
def _members(cls: type) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for base in reversed(cls.__mro__[:-1]):
        members.update(base.__dict__)
    return members


def _hidden_in(member: Any) -> ServiceMethod | None:
    """Return the service method that something is wrapped around, if there is one."""
    if isinstance(member, type):
        return None
    for _ in range(MAX_WRAPPERS):
        member = inside(member)
        if member is None or is_service_method(member):
            found: ServiceMethod | None = member
            return found
    return None
