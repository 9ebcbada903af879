"""The dependency graph: compute methods, computeds, invalidation. One process, one event loop, no IO of its own."""

from fusion_cluster.graph.compute_method import (
    BoundComputeMethod,
    ComputeMethod,
    ComputeMethodDecorator,
    compute_method,
)
from fusion_cluster.graph.computed import Computed, ComputeFunction
from fusion_cluster.graph.computing.computation import Waiter
from fusion_cluster.graph.core.context import current_computation, isolated
from fusion_cluster.graph.core.fence import Fence, Lease
from fusion_cluster.graph.core.key import Key
from fusion_cluster.graph.core.state import State
from fusion_cluster.graph.core.stats import GraphStats
from fusion_cluster.graph.gather import gather
from fusion_cluster.graph.graph import DEFAULT_HISTORY, Graph
from fusion_cluster.graph.hosting import DONE, GraphHosting
from fusion_cluster.graph.why.cause import Cause, CommandRun, Place
from fusion_cluster.graph.why.explanation import Explanation, Happening, Hop, StoryEntry, Trace

__all__ = [
    "DEFAULT_HISTORY",
    "DONE",
    "BoundComputeMethod",
    "Cause",
    "CommandRun",
    "ComputeFunction",
    "ComputeMethod",
    "ComputeMethodDecorator",
    "Computed",
    "Explanation",
    "Fence",
    "Graph",
    "GraphHosting",
    "GraphStats",
    "Happening",
    "Hop",
    "Key",
    "Lease",
    "Place",
    "State",
    "StoryEntry",
    "Trace",
    "Waiter",
    "compute_method",
    "current_computation",
    "gather",
    "isolated",
]
