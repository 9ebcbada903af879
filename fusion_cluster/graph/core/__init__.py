"""The core of the graph: nodes, edges, the registry, the hit, invalidation. In C, with a twin in Python."""
