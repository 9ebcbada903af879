"""The dependency graph: compute methods, computeds, invalidation. One process, one event loop, no IO of its own."""

from fusion_cluster.graph.cause import Cause, CommandRun, Place
from fusion_cluster.graph.computation import Waiter
from fusion_cluster.graph.compute_method import (
    BoundComputeMethod,
    ComputeMethod,
    ComputeMethodDecorator,
    compute_method,
)
from fusion_cluster.graph.computed import Computed, State
from fusion_cluster.graph.context import current_computation, isolated
from fusion_cluster.graph.expiry import expire_after, expire_at
from fusion_cluster.graph.explanation import Explanation, Happening, Hop, StoryEntry, Trace
from fusion_cluster.graph.facade import value_of
from fusion_cluster.graph.failure import Transiency, TransientClassifier, is_transient
from fusion_cluster.graph.fence import Fence, Lease
from fusion_cluster.graph.function import ComputeFunction
from fusion_cluster.graph.gather import gather
from fusion_cluster.graph.graph import DEFAULT_HISTORY, Graph
from fusion_cluster.graph.hosting import DONE, GraphHosting
from fusion_cluster.graph.key import Key
from fusion_cluster.graph.offload import Bodies, TaskBody, TaskRunner
from fusion_cluster.graph.options import DEFAULT_OPTIONS, ComputeOptions, Offload, RayTask
from fusion_cluster.graph.service import ComputeService, Hosting, ServiceMethod, attach, is_attached, service_methods
from fusion_cluster.graph.signature import REQUIRED, Parameter, Signature
from fusion_cluster.graph.stats import GraphStats

__all__ = [
    "DEFAULT_HISTORY",
    "DEFAULT_OPTIONS",
    "DONE",
    "REQUIRED",
    "Bodies",
    "BoundComputeMethod",
    "Cause",
    "CommandRun",
    "ComputeFunction",
    "ComputeMethod",
    "ComputeMethodDecorator",
    "ComputeOptions",
    "ComputeService",
    "Computed",
    "Explanation",
    "Fence",
    "Graph",
    "GraphHosting",
    "GraphStats",
    "Happening",
    "Hop",
    "Hosting",
    "Key",
    "Lease",
    "Offload",
    "Parameter",
    "Place",
    "RayTask",
    "ServiceMethod",
    "Signature",
    "State",
    "StoryEntry",
    "TaskBody",
    "TaskRunner",
    "Trace",
    "Transiency",
    "TransientClassifier",
    "Waiter",
    "attach",
    "compute_method",
    "current_computation",
    "expire_after",
    "expire_at",
    "gather",
    "is_attached",
    "is_transient",
    "isolated",
    "service_methods",
    "value_of",
]
