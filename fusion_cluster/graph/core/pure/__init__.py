"""The hot path in Python: does what `_speed.c` does, where that could not be built. `core` chooses one of the two.

Nodes, their edges, the registry that holds them, the hit, the capture of dependencies and the invalidation of a
subgraph. It has no IO, no event loop, and imports nothing else of the graph. It reports by the registry's callbacks.
"""

from fusion_cluster.graph.core.pure.edges import capture, dependencies_of, dependents_of, has_dependents, link, unlink
from fusion_cluster.graph.core.pure.history import History
from fusion_cluster.graph.core.pure.hit import Call, ServiceMethodHit, adopt_descriptor, adopt_node
from fusion_cluster.graph.core.pure.invalidation import mark
from fusion_cluster.graph.core.pure.registry import Node, Registry, Table

__all__ = [
    "Call",
    "History",
    "Node",
    "Registry",
    "ServiceMethodHit",
    "Table",
    "adopt_descriptor",
    "adopt_node",
    "capture",
    "dependencies_of",
    "dependents_of",
    "has_dependents",
    "link",
    "mark",
    "unlink",
]
