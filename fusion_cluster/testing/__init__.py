"""The testing kit for users: a cluster in one process, and virtual time."""

from typing import TYPE_CHECKING, Any

from fusion_cluster.runtime import VirtualRuntime
from fusion_cluster.testing.virtual_time import VirtualTimeLoop, run_in_virtual_time

if TYPE_CHECKING:
    from fusion_router.local_cluster import LocalCluster as LocalCluster

__all__ = ["LocalCluster", "VirtualRuntime", "VirtualTimeLoop", "run_in_virtual_time"]


def __getattr__(name: str) -> Any:
    # The composition seam (docs/adr/0003-nested-packages.md): the library does not import the router, its users do.
    if name == "LocalCluster":
        from fusion_router.local_cluster import LocalCluster

        return LocalCluster
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
