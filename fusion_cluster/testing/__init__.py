"""The testing kit for users: a cluster in one process, virtual time, and simulation."""

from typing import TYPE_CHECKING, Any

from fusion_cluster.runtime import VirtualRuntime
from fusion_cluster.testing.virtual_time import VirtualTimeLoop, run_in_virtual_time

if TYPE_CHECKING:
    from fusion_router.local_cluster import LocalCluster as LocalCluster
    from fusion_router.simulation.settings import WorldSettings as WorldSettings
    from fusion_router.simulation.simulate import SimulationFailed as SimulationFailed
    from fusion_router.simulation.simulate import simulate as simulate
    from fusion_router.simulation.world import World as World

__all__ = [
    "LocalCluster",
    "SimulationFailed",
    "VirtualRuntime",
    "VirtualTimeLoop",
    "World",
    "WorldSettings",
    "run_in_virtual_time",
    "simulate",
]


def __getattr__(name: str) -> Any:
    # The composition seam (docs/adr/0003-nested-packages.md): the library does not import the router, its users do.
    if name == "LocalCluster":
        from fusion_router.local_cluster import LocalCluster

        return LocalCluster
    if name in ("SimulationFailed", "World", "WorldSettings", "simulate"):
        from fusion_router import simulation

        return getattr(simulation, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
