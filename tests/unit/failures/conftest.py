"""A graph per test, as the tests of the graph have."""

from tests.unit.graph.conftest import graph, host

__all__ = ["graph", "host"]
