"""Attaching a service to a host: each service method of the instance is bound, once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fusion_cluster.bodies.offload import Bodies
from fusion_cluster.catalogue.catalogue import methods_of
from fusion_cluster.catalogue.members import service_methods
from fusion_cluster.catalogue.method import Method
from fusion_cluster.catalogue.service import ComputeService, is_attached
from fusion_cluster.errors import UsageError
from fusion_cluster.graph.core.hot_path import IS_NATIVE


def attach(
    instance: ComputeService,
    hosting: Any,
    service_name: str | None = None,
    *,
    methods: Sequence[Method] | None = None,
    bodies: Bodies | None = None,
) -> None:
    """Bind all service methods of `instance` to `hosting`.

    Args:
        instance: the service.
        hosting: where its values come from and its commands go: a `graph.hosting.Hosting`, and for commands a
            `commands.command.CommandHosting`.
        service_name: its name in keys, if not its class's.
        methods: what its app knows of its methods; None: what its class alone says.
        bodies: runs its bodies; a service that is given none has threads of its own.

    Raises:
        UsageError: the instance is attached already.
    """
    kind = type(instance)
    if is_attached(instance):
        raise UsageError(f"{kind.__name__} is hosted already")
    if methods is None:
        methods = methods_of(kind, service_name=service_name)
    bodies = bodies or Bodies()
    descriptors = service_methods(kind)
    bound: dict[str, Any] = {}
    for method in methods:
        descriptor = descriptors[method.method_name]
        bound[method.method_name] = descriptor.bind(
            method, instance, hosting, bodies.body(method, descriptor, instance)
        )
    instance._runtime = hosting.graph.runtime
    instance._bound = {descriptors[name]: one for name, one in bound.items()}
    if not IS_NATIVE:  # in Python, nothing is quicker than to be found before the descriptor
        instance.__dict__.update(bound)
