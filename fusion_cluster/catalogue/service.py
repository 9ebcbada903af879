"""`ComputeService`: the base of all services.

A service is a plain class until an instance is attached to a host (`bodies.attaching.attach`). Then each of its service
methods is bound, once, and the descriptor in the class finds what it has been bound to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from fusion_cluster.catalogue.members import require_class
from fusion_cluster.catalogue.options import DEFAULT_OPTIONS, ComputeOptions, require_defaults
from fusion_cluster.catalogue.service_method import ServiceMethod
from fusion_cluster.runtime import SYSTEM, Runtime

if TYPE_CHECKING:
    from fusion_cluster.database import Database


class ComputeService:
    """Base of all services: a class whose methods may be compute methods and commands.

    Attributes:
        database: the app's database; set by the host where the app has one.
        service_name: the service's name in keys and on the wire; the class's own name unless the class sets it.
        shard_group: services of one group put equal first arguments on the same shard; the service's name unless the
            class or one of its bases sets it.
        compute_defaults: options of the class's compute methods where these set none themselves; a class adds to what
            its bases set. They win over the app's.
    """

    database: Database

    service_name: ClassVar[str] = "ComputeService"
    shard_group: ClassVar[str] = "ComputeService"
    compute_defaults: ClassVar[ComputeOptions] = DEFAULT_OPTIONS

    _chosen_shard_group: ClassVar[str | None] = None
    _runtime: Runtime = SYSTEM
    _bound: Mapping[ServiceMethod, Callable[..., Any]] | None = None
    """The bound form of each service method of an attached instance. None: the instance is not attached."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        require_class(cls)
        if "service_name" not in cls.__dict__:
            cls.service_name = cls.__name__
        if "compute_defaults" in cls.__dict__:
            require_defaults(cls.compute_defaults, f"{cls.__name__}.compute_defaults")
        if "shard_group" in cls.__dict__:
            cls._chosen_shard_group = cls.shard_group
        else:
            cls.shard_group = cls._chosen_shard_group or cls.service_name


def is_attached(instance: ComputeService) -> bool:
    """Tell whether `instance` has been attached to a host."""
    return instance._bound is not None


def runtime_of(instance: ComputeService) -> Runtime:
    """Return the runtime of the host that a service lives in; the system's where it lives in none."""
    return instance._runtime
