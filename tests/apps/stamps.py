"""An app whose middleware stamps results with the process that ran the body: what tests run on a real Ray cluster."""

from __future__ import annotations

import os
from typing import Any

from fusion_cluster import App, Call, ComputeService, Next, RayTask, command, compute_method
from fusion_cluster.middleware import Authorization, Timing, anybody, signed_in

timing = Timing()


async def stamp(call: Call, next: Next) -> Any:
    """Make a result a list of itself and the process in which this ran."""
    result = await next(call)
    return [result, os.getpid()] if call.method_name != "counts" else result


class Letters(ComputeService):
    @compute_method
    async def letter(self, number: int) -> list[int]:
        return os.getpid()  # type: ignore[return-value]  # what comes out is a list

    @compute_method(offload=RayTask(num_cpus=0.5))
    def heavy(self, number: int) -> list[int]:
        return os.getpid()  # type: ignore[return-value]

    @command
    async def send(self, number: int) -> list[int]:
        return os.getpid()  # type: ignore[return-value]

    @command
    async def burn(self, number: int) -> list[int]:
        return os.getpid()  # type: ignore[return-value]

    @command
    async def counts(self, number: int) -> dict[str, int]:
        """What the process that runs this has counted."""
        return {name: times.count for name, times in timing.methods.items()}


app = App(
    "letters",
    services=[Letters],
    middleware=[stamp, timing, Authorization({"Letters.burn": signed_in, "*": anybody})],
)
