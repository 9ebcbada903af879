"""The simulator: whole clusters in one process, in virtual time, in which a seed decides everything."""

from fusion_router.simulation.settings import WorldSettings
from fusion_router.simulation.simulate import SimulationFailed, simulate
from fusion_router.simulation.world import World

__all__ = ["SimulationFailed", "World", "WorldSettings", "simulate"]
