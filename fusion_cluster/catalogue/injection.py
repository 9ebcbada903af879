"""Making services, and giving them what the annotations of their classes ask for."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.errors import UsageError
from fusion_cluster.failures.exits import body_exited


def service_annotations(service: type[ComputeService]) -> dict[str, Any]:
    """The resolved annotations of a service class and its bases, up to `ComputeService` itself."""
    found: dict[str, Any] = {}
    for base in reversed(service.__mro__):
        if base is ComputeService or not issubclass(base, ComputeService):
            continue
        try:
            found.update(inspect.get_annotations(base, eval_str=True))
        except NameError as error:
            raise UsageError(f"{base.__name__}: an annotation names {error.name!r}, which is not defined") from error
    return found


def inject(
    instance: ComputeService,
    services: Mapping[type[ComputeService], ComputeService],
    *,
    database: Any = None,
    app_name: str = "",
) -> None:
    """Give a service what it asks for: the app's database, and the other services of its host.

    Raises:
        UsageError: it asks for a service that the app does not have.
    """
    service = type(instance)
    if database is not None:
        instance.database = database
    for attribute, hint in service_annotations(service).items():
        if not (isinstance(hint, type) and issubclass(hint, ComputeService)):
            continue
        dependency = services.get(hint)
        if dependency is None:
            raise UsageError(
                f"{service.__name__}.{attribute} needs {hint.__name__}, which is not a service of the app {app_name!r}",
                field=attribute,
            )
        setattr(instance, attribute, dependency)


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
