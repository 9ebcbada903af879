"""What a graph has counted so far."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GraphStats:
    """What a graph has done so far.

    Attributes:
        nodes: computeds in the registry now.
        hits: calls that found their computed.
        computations: computations started.
        invalidations: computeds invalidated or outdated, for whatever reason.
        evictions: computeds invalidated to keep the bounds.
        bytes: what nodes and values take together, by estimate; None where no bound asks for it.
    """

    nodes: int
    hits: int
    computations: int
    invalidations: int
    evictions: int
    bytes: int | None = None
