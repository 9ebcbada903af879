"""A.21 on random graphs: hops are a way along dependencies, from the key to what was invalidated."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_cluster.bodies.attaching import attach
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.graph import Graph, GraphHosting, compute_method, gather
from fusion_cluster.graph.why.cause import Cause

SIZE = 12


class Web(ComputeService):
    """Node n uses some of the nodes below n."""

    def __init__(self, uses: list[list[int]]) -> None:
        self.uses = uses

    @compute_method
    async def node(self, number: int) -> int:
        return sum(await gather(*(self.node(used) for used in self.uses[number]))) + 1


@st.composite
def webs(draw: st.DrawFn) -> list[list[int]]:
    return [draw(st.lists(st.integers(0, n - 1), unique=True, max_size=4)) if n else [] for n in range(SIZE)]


@settings(max_examples=150, deadline=None)
@given(webs(), st.lists(st.integers(0, SIZE - 1), max_size=6), st.sampled_from([5, 20, 10_000]))
def test_hops_lead_along_dependencies_to_the_root_and_its_cause(
    uses: list[list[int]], roots: list[int], history: int
) -> None:
    async def script() -> None:
        graph = Graph(history=history)
        web = Web(uses)
        attach(web, GraphHosting(graph))
        for step, root in enumerate(roots):
            nodes = {number: web.node(number) for number in range(SIZE)}
            for node in nodes.values():
                await node
            cause = Cause("test", f"change {step} of {root}")
            graph.invalidate(nodes[root], cause)
            for number, node in nodes.items():
                explanation = graph.why(node)
                assert explanation is not None
                assert explanation.is_out_of_date is not node.is_consistent
                if node.is_consistent:
                    continue
                if explanation.trace is None:  # forgotten as a whole
                    assert history < SIZE
                    continue
                assert graph.why(node.key) == explanation
                trace = explanation.trace
                way = [hop.key.arguments[0] for hop in trace.hops]
                assert way[0] == number
                assert all(used in uses[user] for user, used in pairwise(way))
                assert trace.origin is cause
                assert trace.has_forgotten_hops or way[-1] == root
                assert not trace.has_forgotten_hops or history < SIZE
                assert [hop.version for hop in trace.hops] == [nodes[hop].version for hop in way]
        await graph.close()

    asyncio.run(script())
