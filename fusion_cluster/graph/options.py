"""What `@compute_method` can be told."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fusion_cluster.errors import UsageError


@dataclass(frozen=True)
class ComputeOptions:
    """Options of a compute method; all times are in seconds.

    Attributes:
        min_cache_duration: keep a result at least this long after it was computed, as far as the registry's bound
            allows.
        auto_invalidation_delay: invalidate a result this long after it was computed; infinite means never.
        transient_error_delay: invalidate a transient error this long after it was computed.
        error_delay: invalidate any other error this long after it was computed.
        shard_by: what places the key on a shard instead of the first argument: the name of a parameter, or a function
            of the arguments.
    """

    min_cache_duration: float = 0.0
    auto_invalidation_delay: float = math.inf
    transient_error_delay: float = 1.0
    error_delay: float = 30.0
    shard_by: str | Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        for name in ("min_cache_duration", "auto_invalidation_delay", "transient_error_delay", "error_delay"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"{name} must be a number of seconds, 0 or more", field=name)


DEFAULT_OPTIONS = ComputeOptions()
"""Options of a compute method that is told nothing."""
