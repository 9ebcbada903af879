"""Making services, and giving them what the annotations of their classes ask for."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, get_origin

from fusion_cluster.catalogue.generics import bases_of, is_derived_from
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.errors import UsageError
from fusion_cluster.failures.exits import body_exited
from fusion_cluster.wire.description import type_name
from fusion_cluster.wire.spelling import substituted


def service_annotations(service: type[ComputeService]) -> dict[str, Any]:
    """Return the annotations of a service class and its bases that ask for services, by attribute.

    Type variables of generic bases are replaced by what they stand for in the class.

    Raises:
        UsageError: an annotation names something that cannot be found.
    """
    found: dict[str, Any] = {}
    bases = bases_of(service)
    for base in reversed(service.__mro__):
        if base is ComputeService or not issubclass(base, ComputeService):
            continue
        variables = bases.get(base, {})
        names = {variable.__name__: variable for variable in variables} | dict(vars(base))
        try:
            annotations = inspect.get_annotations(base, locals=names, eval_str=True)
        except NameError as error:
            raise UsageError(f"{base.__name__}: an annotation names {error.name!r}, which is not defined") from error
        found |= {attribute: substituted(hint, variables) for attribute, hint in annotations.items()}
    return {attribute: hint for attribute, hint in found.items() if _is_service(hint)}


def inject(
    instance: ComputeService,
    services: Mapping[type[ComputeService], ComputeService],
    *,
    database: Any = None,
    app_name: str = "",
) -> None:
    """Give a service what it asks for: the app's database, and the other services of its host.

    An annotation `users: Repo[User]` asks for the one service that is derived from `Repo[User]`.

    Raises:
        UsageError: it asks for a service that the app does not have, or has several times.
    """
    service = type(instance)
    if database is not None:
        instance.database = database
    for attribute, hint in service_annotations(service).items():
        fitting = those_that_fit(hint, services)
        if len(fitting) != 1:
            what = "is not a service of" if get_origin(hint) is None else "is not the base of a service of"
            if len(fitting) > 1:
                names = " and ".join(sorted(one.__name__ for one in fitting))
                what = f"is the base of {names}, so name one of them; all are services of"
            raise UsageError(
                f"{service.__name__}.{attribute} needs {type_name(hint)}, which {what} the app {app_name!r}",
                field=attribute,
            )
        setattr(instance, attribute, services[fitting[0]])


def those_that_fit(hint: Any, services: Iterable[type[ComputeService]]) -> list[type[ComputeService]]:
    """Return the services that an annotation asks for: the class itself, or those derived from `Repo[User]`."""
    return [service for service in services if is_derived_from(service, hint)]


def new_instance(service: type[ComputeService]) -> ComputeService:
    """Return a new service.

    Raises:
        BodyExited: its `__init__` has raised what is not an `Exception`.
    """
    try:
        return service()
    except Exception:
        raise
    except BaseException as error:
        raise body_exited(f"{service.service_name}.__init__", error) from error


def _is_service(hint: Any) -> bool:
    kind = get_origin(hint) or hint
    return isinstance(kind, type) and issubclass(kind, ComputeService)
