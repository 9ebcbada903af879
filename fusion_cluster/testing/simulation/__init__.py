"""Simulation: an event loop, machines and a network whose every decision a seed makes."""

from fusion_cluster.testing.simulation.chance import Chance
from fusion_cluster.testing.simulation.loop import NothingLeft, SimulatedLoop, TooManySteps
from fusion_cluster.testing.simulation.machine import Machine
from fusion_cluster.testing.simulation.network import Network, SimulatedCarrier

__all__ = ["Chance", "Machine", "Network", "NothingLeft", "SimulatedCarrier", "SimulatedLoop", "TooManySteps"]
