"""Which results are kept where not all can be: the graph's hit rate against LRU, LFU and SIEVE over the same traces."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from benchmarks.discovery import Say
from benchmarks.path import on_path
from benchmarks.policies import POLICIES
from benchmarks.row import Row, value_at_most
from benchmarks.traces import scan_heavy_trace, zipf_trace
from fusion_cluster.bodies.attaching import attach
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.graph import Graph, GraphHosting, compute_method

SEED = 2024
SHARES = (0.01, 0.1)
"""How many of the keys are kept."""
MOST_POINTS_BEHIND = 3.0


@dataclass(frozen=True)
class Sizes:
    """How long the traces are: long enough for the hand of SIEVE to come round, or it would choose what LFU chooses.

    Attributes:
        keys: distinct keys of the Zipf trace.
        length: reads.
    """

    keys: int = 10_000
    length: int = 300_000


QUICK = Sizes(keys=500, length=10_000)


class Pages(ComputeService):
    @compute_method
    async def page(self, number: int) -> int:
        return number


async def run(say: Say, quick: bool) -> AsyncIterator[Row]:
    """Compare hit rates."""
    sizes = QUICK if quick else Sizes()
    traces = {
        "Zipf": zipf_trace(keys=sizes.keys, length=sizes.length, seed=SEED),
        "scan-heavy": scan_heavy_trace(keys=sizes.keys, length=sizes.length, seed=SEED, scan=sizes.keys // 10),
    }
    for name, trace in traces.items():
        for share in SHARES:
            say(f"{name}, {share:.0%} of the keys")
            case = f"{name}, {share:.0%} of {sizes.keys:,} keys kept"
            for row in await compared(case, trace, int(sizes.keys * share)):
                yield row


async def compared(case: str, trace: Sequence[int], size: int) -> list[Row]:
    """The rows of one trace and one size."""
    rates = {name: policy(size).hit_rate(trace) for name, policy in POLICIES.items()}
    rate = await graph_hit_rate(trace, size)
    best = max(rates, key=lambda name: rates[name])
    behind = Row(
        *("eviction", on_path(f"{case}: behind the best"), round(rates[best] - rate, 6), "points"),
        reference=f"{best} has {rates[best]:.1f}%, the graph {rate:.1f}%",
        goal=value_at_most(MOST_POINTS_BEHIND),
    )
    hits = on_path(f"{case}: hits")
    return [behind, *(Row("eviction", hits, rate, "%", name, its_rate) for name, its_rate in rates.items())]


async def graph_hit_rate(trace: Sequence[int], size: int) -> float:
    """Read all keys of a trace through a graph of so many nodes; return in percent how many were not computed."""
    service, graph = Pages(), Graph(max_nodes=size)
    attach(service, GraphHosting(graph))
    for key in trace:
        await service.page(key)
    stats = graph.stats
    await graph.close()
    if stats.nodes > size:
        raise AssertionError(f"{stats.nodes} nodes in a graph of {size}")
    return 100 * (1 - stats.computations / len(trace))
