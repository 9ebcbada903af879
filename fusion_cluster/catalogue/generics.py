"""Generic services: what the type variables of a service's bases stand for.

`class Users(Repo[User])` makes `T` of `class Repo(ComputeService, Generic[T])` the class `User` in every method that
`Users` has from `Repo`. A service of an app has no variable left: a type that is not known cannot travel.
"""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args, get_origin

from fusion_cluster.errors import UsageError
from fusion_cluster.wire.description import type_name
from fusion_cluster.wire.spelling import substituted, type_parameters

Variables = Mapping[Any, Any]
"""Type variables, each with the type that it stands for."""

_PLURAL: Final = (typing.ParamSpec, typing.TypeVarTuple)
_GENERIC: Final = (typing.Generic, typing.Protocol)


def bases_of(service: type) -> dict[type, Variables]:
    """Return the generic classes that a class is derived from, each with what its variables stand for in the class.

    A variable that the class leaves open stands for its default, if it has one, else for itself.

    Raises:
        UsageError: the name of a class in quotes, in a list of bases, cannot be found.
    """
    found: dict[type, Variables] = {}
    _add(service, {}, found)
    return found


def variables_of(service: type, member: object) -> Variables:
    """Return what the type variables in the hints of a method stand for, in a class that has the method.

    Args:
        service: the class.
        member: what is in the class that defines the method.
    """
    for owner in service.__mro__:
        if any(one is member for one in vars(owner).values()):
            return bases_of(service).get(owner, {})
    return {}


def require_known(hint: Any, method: str, place: str, service: type) -> None:
    """Check that no type variable is left in a hint.

    Args:
        hint: in which those that the service settles are replaced.
        method: full name of the method, for the message.
        place: name of the parameter, or "return".
        service: the class.

    Raises:
        UsageError: one is left; the message names it and says what to write.
    """
    for variable in _left_in(hint):
        name = getattr(variable, "__name__", str(variable))
        where = "its result" if place == "return" else repr(place)
        if isinstance(variable, _PLURAL):
            kind = type(variable).__name__
            advice = "name each parameter with its type"
            raise UsageError(f"{method}: {where} has the type {name}, a {kind}: {advice}", field=place)
        base = _declaring(service, variable)
        if base is None:
            advice = f"write the type itself in its place, or make {name} a type variable of the service class"
        elif base is service:
            advice = f"give the app a class that says what it is, as in `class Users({base.__name__}[User])`"
        else:
            example = f"class {service.__name__}({base.__name__}[User])"
            advice = f"say what it is in the bases of {service.__name__}, as in `{example}`"
        what = f"{where} has the type variable {name}, and {service.__name__} does not say what {name} is"
        raise UsageError(f"{method}: {what}: {advice}", field=place)


def is_derived_from(service: type, hint: Any) -> bool:
    """Tell whether a class is what a hint asks for: `Repo[User]`, or a class itself."""
    origin = get_origin(hint)
    if origin is None:
        return service is hint
    known = bases_of(service).get(origin)
    if known is None:
        return False
    return tuple(known.get(one, one) for one in type_parameters(origin)) == get_args(hint)


# -- inside ------------------------------------------------------------------------------------------------------------
def _add(cls: type, known: Variables, found: dict[type, Variables]) -> None:
    own: Variables = {one: known.get(one, _default(one)) for one in type_parameters(cls)}
    if own:
        found[cls] = own = _merged(own, found.get(cls, {}), cls)
    for base in vars(cls).get("__orig_bases__", cls.__bases__):
        origin = get_origin(base)
        if origin is None and base is not object:
            _add(base, {}, found)
        elif origin is not None and origin not in _GENERIC:
            arguments = [substituted(_resolved(one, cls), own) for one in get_args(base)]
            given = dict(zip(type_parameters(origin), arguments, strict=False))
            _require_fitting(given, cls, origin)
            _add(origin, given, found)


def _merged(new: Variables, old: Variables, cls: type) -> Variables:
    """Return what is known of the variables of a class that is a base in two ways."""
    merged = dict(new)
    for variable, one in old.items():
        if one == new[variable] or one is variable:
            continue
        if new[variable] is not variable:
            raise UsageError(
                f"{variable.__name__} of {cls.__name__} is {type_name(one)} by one base and {type_name(new[variable])} "
                "by another: it can be one of them only"
            )
        merged[variable] = one
    return merged


def _default(variable: Any) -> Any:
    """Return the default of a type variable (of Python 3.13, or of `typing_extensions`); itself if it has none."""
    default = getattr(variable, "__default__", None)
    return variable if default is None or type(default).__name__ == "NoDefaultType" else default


def _resolved(argument: Any, cls: type) -> Any:
    """Return an argument of a base in which the names of classes in quotes are replaced by the classes."""
    if isinstance(argument, str):
        argument = typing.ForwardRef(argument)
    if isinstance(argument, list):  # of a ParamSpec
        return argument
    namespace = vars(sys.modules.get(cls.__module__, types.ModuleType("nowhere")))
    holder = types.SimpleNamespace(__annotations__={"argument": argument})
    try:
        return typing.get_type_hints(holder, dict(namespace), {cls.__name__: cls}, include_extras=True)["argument"]
    except NameError as error:
        raise UsageError(
            f"{cls.__name__}: its base names {error.name!r} in quotes, which cannot be found: write the class itself"
        ) from error
    except TypeError:  # not a type: left to the codecs
        return argument


def _require_fitting(arguments: Variables, cls: type, base: type) -> None:
    """Refuse what a type variable cannot stand for, by its bound and its constraints."""
    for variable, argument in arguments.items():
        bound, constraints = getattr(variable, "__bound__", None), getattr(variable, "__constraints__", ())
        if isinstance(argument, typing.TypeVar):
            continue
        wrong = bool(constraints) and argument not in constraints
        if isinstance(bound, type) and isinstance(argument, type) and not type_parameters(bound):
            wrong = wrong or not issubclass(argument, bound)
        if wrong:
            allowed = " or ".join(map(type_name, constraints)) or f"derived from {type_name(bound)}"
            raise UsageError(
                f"{cls.__name__}: {variable.__name__} of {base.__name__} must be {allowed}, not {type_name(argument)}"
            )


def _left_in(hint: Any) -> Iterator[Any]:
    if isinstance(hint, (typing.TypeVar, *_PLURAL)):
        yield hint
        return
    yield from type_parameters(hint)


def _declaring(service: type, variable: Any) -> type | None:
    """Return the nearest base of a service that declares a type variable; None if no base does."""
    return next((one for one in service.__mro__ if variable in type_parameters(one)), None)
