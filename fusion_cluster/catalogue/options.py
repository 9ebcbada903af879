"""Options of `@compute_method`.

Options are set in three places: at the method, at the service (`compute_defaults`) and at the app (`App(defaults=…)`).
The nearest place that sets an option wins. A place that does not name an option leaves it alone, so an option that is
set to its default value still wins over a wider place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Self

from fusion_cluster.errors import UsageError
from fusion_cluster.quantities import MOST, as_count, as_delay, as_finite_delay, as_number, shown

_AMOUNT: Final = "an amount, 0 or more"


@dataclass(frozen=True, kw_only=True)
class RayTask:
    """Runs a body as a Ray task: in another process, on any machine of the Ray cluster that has the resources free.

    Where the process has no Ray, the body runs in a thread, under the same rules: it has its arguments and an instance
    made for it, and neither compute methods nor the database.

    Attributes:
        num_cpus: CPUs that Ray sets aside while the body runs.
        num_gpus: GPUs, likewise; a fraction shares one.
        memory_bytes: memory, likewise; None: no memory is set aside.
        resources: custom resources, by name.

    Raises:
        UsageError: an amount is negative; `field` names it.
    """

    num_cpus: float = 1.0
    num_gpus: float = 0.0
    memory_bytes: int | None = None
    resources: Mapping[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        keep = object.__setattr__
        keep(self, "num_cpus", as_number("num_cpus", self.num_cpus, _AMOUNT, most=MOST))
        keep(self, "num_gpus", as_number("num_gpus", self.num_gpus, _AMOUNT, most=MOST))
        if self.memory_bytes is not None:
            keep(self, "memory_bytes", as_count("memory_bytes", self.memory_bytes, least=0))
        if not isinstance(self.resources, Mapping):
            raise UsageError(f"resources must be amounts by name, not {shown(self.resources)}", field="resources")
        amounts = {name: as_number("resources", amount, _AMOUNT, most=MOST) for name, amount in self.resources.items()}
        keep(self, "resources", amounts)


Offload = Literal["thread"] | RayTask
"""A place for a body other than the event loop: a thread, or a Ray task."""


@dataclass(frozen=True, kw_only=True)
class ComputeOptions:
    """Options of a compute method; all times are in seconds.

    Attributes:
        min_cache_duration: keep a result at least this long after it was computed, as far as the registry's bound
            allows.
        auto_invalidation_delay: invalidate a result this long after it was computed; infinite means never.
        invalidation_delay: when something beneath a result has changed, or it is invalidated by hand, let this pass
            before the result is invalidated; further changes within it cost nothing. Readers, also those who come after
            the command that has made the change, may get the old value for so long.
        transient_error_delay: invalidate a transient error this long after it was computed.
        error_delay: invalidate any other error this long after it was computed.
        consolidation_delay: when something beneath a result has changed, or it is invalidated by hand, compute it again
            after this long (0: in the next turn of the event loop), once, and invalidate it and its dependents only if
            the value is another by `==`, or the error by type and arguments. Readers may get the old value for so long
            and until it is computed. A result without dependents and observers is invalidated at once. None: every
            result is.
        shard_by: what places the key on a shard instead of the first argument: the name of a parameter, or a function
            of the arguments.
        offload: where the body runs: "thread", `RayTask(...)`, or None for the event loop.
        freeze: results are given in a form that nobody can change: tuples for lists, `MappingProxyType` for
            dictionaries, `frozenset` for sets, at any depth, here and in every process that reads them.
        varies: the result may depend on who asks: on `principal()`, or on results that do. False: reading either is an
            error, so the result is everybody's for certain.

    Raises:
        UsageError: a value is out of its range; `field` names the option.
    """

    min_cache_duration: float = 0.0
    auto_invalidation_delay: float = math.inf
    invalidation_delay: float = 0.0
    transient_error_delay: float = 1.0
    error_delay: float = 30.0
    consolidation_delay: float | None = None
    shard_by: str | Callable[..., Any] | None = None
    offload: Offload | None = None
    freeze: bool = False
    varies: bool = True

    def __new__(cls, **said: Any) -> Self:
        """Note which options are named."""
        options = super().__new__(cls)
        object.__setattr__(options, "_said", frozenset(said))
        return options

    def __post_init__(self) -> None:
        for name in ("min_cache_duration", "auto_invalidation_delay", "transient_error_delay", "error_delay"):
            object.__setattr__(self, name, as_delay(name, getattr(self, name)))
        # A result that never hears of a change would be wrong for ever.
        object.__setattr__(self, "invalidation_delay", as_finite_delay("invalidation_delay", self.invalidation_delay))
        if self.consolidation_delay is not None:
            delay_s = as_finite_delay("consolidation_delay", self.consolidation_delay)
            object.__setattr__(self, "consolidation_delay", delay_s)
        if not (self.offload is None or self.offload == "thread" or isinstance(self.offload, RayTask)):
            raise UsageError('offload must be "thread", RayTask(...) or None', field="offload")
        for name in ("freeze", "varies"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"{name} must be True or False", field=name)
        if not (self.shard_by is None or isinstance(self.shard_by, str) or callable(self.shard_by)):
            raise UsageError("shard_by must be a parameter's name or a function of the arguments", field="shard_by")

    @property
    def said(self) -> frozenset[str]:
        """Names of the options that were given, also of those given with their default values."""
        said: frozenset[str] = self.__dict__["_said"]
        return said

    def over(self, wider: ComputeOptions) -> ComputeOptions:
        """Return these options, with what `wider` says where these say nothing."""
        values = {name: getattr(wider, name) for name in wider.said} | {name: getattr(self, name) for name in self.said}
        return ComputeOptions(**values)


def require_defaults(options: object, where: str) -> None:
    """Check that `options` can be those of many methods at once.

    Args:
        options: what somebody gave as defaults.
        where: names the place in the message.

    Raises:
        UsageError: it is not a `ComputeOptions`, or it sets `shard_by`, which is about the parameters of one method.
    """
    if not isinstance(options, ComputeOptions):
        raise UsageError(f"{where} must be ComputeOptions(...), not {options!r}", field=where)
    if "shard_by" in options.said:
        raise UsageError(
            f"{where} cannot set shard_by: set it at the method, or give services one shard_group", field="shard_by"
        )


DEFAULT_OPTIONS: Final = ComputeOptions()
"""Options of a compute method that sets none."""
