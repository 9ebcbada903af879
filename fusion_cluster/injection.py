"""Which services a service asks for: the annotations of its class."""

from __future__ import annotations

import inspect
from typing import Any

from fusion_cluster.errors import UsageError
from fusion_cluster.graph import ComputeService


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
