"""The hot path: nodes, edges, the registry, the hit, capture and invalidation. In C where that could be built.

`_speed.c` and the package `pure` are twins: the same names, the same semantics, the same tests. Set
`FUSION_PURE_PYTHON=1` to choose Python where there is C.

Invariants (checked by `Graph.validate`):

1. A node is in its function's table if and only if it is *live*: CONSISTENT, or COMPUTING. So a hit checks no state.
2. `dependent` is among the dependents of `node`, and `node` among the dependencies of `dependent`, if and only if both
   are live and `dependent` has used `node`, or waits for it now. Outdating a node therefore reaches all that will be
   given its old value, also before they have it.
3. A node that is not live has no edges.
"""

from __future__ import annotations

import importlib
import os
import warnings
from typing import TYPE_CHECKING, Any, Final

from fusion_cluster.graph.core.context import current_computation
from fusion_cluster.graph.core.pure.states import COMPUTING, CONSISTENT, INVALIDATED, OUTDATED


def _native() -> Any:
    """Return the module in C, or None where it was not built or is not wanted."""
    if os.environ.get("FUSION_PURE_PYTHON", "") not in ("", "0"):
        return None
    try:
        module = importlib.import_module("fusion_cluster.graph.core._speed")
    except ImportError as error:
        if not isinstance(error, ModuleNotFoundError):
            warnings.warn(f"the hot path in C cannot be loaded, Python serves: {error}", RuntimeWarning, stacklevel=2)
        return None
    module.set_context(current_computation)
    return module


_speed = None if TYPE_CHECKING else _native()
IS_NATIVE: Final = _speed is not None
"""Whether the hot path runs in C."""

if TYPE_CHECKING or _speed is None:
    from fusion_cluster.graph.core.pure import (
        Call,
        History,
        Node,
        Registry,
        ServiceMethodHit,
        Table,
        adopt_descriptor,
        adopt_node,
        capture,
        dependencies_of,
        dependents_of,
        has_dependents,
        link,
        mark,
        unlink,
    )
else:
    Call = _speed.Call
    History = _speed.History
    Node = _speed.Node
    Registry = _speed.Registry
    ServiceMethodHit = _speed.ServiceMethodHit
    Table = _speed.Table
    adopt_descriptor = _speed.adopt_descriptor
    adopt_node = _speed.adopt_node
    capture = _speed.capture
    dependencies_of = _speed.dependencies_of
    dependents_of = _speed.dependents_of
    has_dependents = _speed.has_dependents
    link = _speed.link
    mark = _speed.mark
    unlink = _speed.unlink

__all__ = [
    "COMPUTING",
    "CONSISTENT",
    "INVALIDATED",
    "IS_NATIVE",
    "OUTDATED",
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
