"""Ranks of keys: they decide which wait of a cycle is refused.

Invariant: a key has the same rank in all processes and at all times. So the wait that is refused depends on the keys of
the cycle alone: not on which of its computations began first, on where they run, or on who has found the cycle.
"""

from __future__ import annotations

from typing import Any, Final

import xxhash

from fusion_cluster.graph.computing.function import Function
from fusion_cluster.graph.core.hot_path import Node
from fusion_cluster.graph.core.key import SOURCE, key_of

HIGHEST_RANK: Final = 2**64 - 1
"""The rank of sources (see `consolidation`): their one reader is not a user's body, which could catch the error."""


def rank(node: Node[Any]) -> int:
    """Return the rank of a computation's key, a number of 64 bits: a hash of method, arguments and principal."""
    function: Function[Any] = node.function
    if function.method_name.endswith(SOURCE):
        return HIGHEST_RANK
    try:
        arguments = function.codec.encode(node.arguments)
    except Exception:  # they have never left the process
        arguments = str(key_of(node)).encode(errors="replace")
    name = f"{function.service_name}.{function.method_name}\0{function.principal or ''}\0"
    return xxhash.xxh3_64_intdigest(name.encode(errors="replace") + arguments)
