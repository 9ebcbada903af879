"""A graph per test, validated and emptied at its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import pytest

from fusion_cluster.bodies.attaching import attach
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.graph import Graph, GraphHosting

S = TypeVar("S", bound=ComputeService)


@pytest.fixture
async def graph() -> AsyncIterator[Graph]:
    graph = Graph()
    yield graph
    graph.validate()
    await graph.close()
    graph.validate()
    assert graph.stats.nodes == 0


@pytest.fixture
def host(graph: Graph) -> Callable[[S], S]:
    hosting = GraphHosting(graph)

    def attached(service: S) -> S:
        attach(service, hosting)
        return service

    return attached
