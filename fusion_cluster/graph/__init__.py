"""The dependency graph: compute methods, computeds, invalidation. One process, one event loop, no IO of its own."""

from fusion_cluster.graph.computation import Waiter
from fusion_cluster.graph.compute_method import BoundComputeMethod, ComputeMethod, compute_method
from fusion_cluster.graph.computed import Computed, State
from fusion_cluster.graph.context import current_computation, isolated
from fusion_cluster.graph.function import ComputeFunction
from fusion_cluster.graph.gather import gather
from fusion_cluster.graph.graph import Graph, GraphStats
from fusion_cluster.graph.hosting import DONE, GraphHosting
from fusion_cluster.graph.key import Key
from fusion_cluster.graph.options import ComputeOptions
from fusion_cluster.graph.service import ComputeService, Hosting, ServiceMethod, attach, is_attached, service_methods
from fusion_cluster.graph.signature import REQUIRED, Parameter, Signature

__all__ = [
    "DONE",
    "REQUIRED",
    "BoundComputeMethod",
    "ComputeFunction",
    "ComputeMethod",
    "ComputeOptions",
    "ComputeService",
    "Computed",
    "Graph",
    "GraphHosting",
    "GraphStats",
    "Hosting",
    "Key",
    "Parameter",
    "ServiceMethod",
    "Signature",
    "State",
    "Waiter",
    "attach",
    "compute_method",
    "current_computation",
    "gather",
    "is_attached",
    "isolated",
    "service_methods",
]
