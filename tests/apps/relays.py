"""An app whose values are computed from others on other shards, each as long as a plan says; it notes what runs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from fusion_cluster import App, ComputeService, command, compute_method, gather
from fusion_cluster.runtime import VirtualRuntime
from fusion_cluster.testing import LocalCluster


@dataclass
class Plan:
    """What each body does, by its number.

    Attributes:
        uses: the numbers that it reads, all at once, before it works.
        works_s: how long it works.
        running: the bodies that run now, with how many of each.
        begun: how often each was begun.
    """

    uses: dict[int, Sequence[int]] = field(default_factory=dict)
    works_s: dict[int, float] = field(default_factory=dict)
    running: Counter[int] = field(default_factory=Counter)
    begun: Counter[int] = field(default_factory=Counter)

    def duration_s(self, number: int) -> float:
        """How long a body takes when nobody else has begun."""
        longest_s = max((self.duration_s(used) for used in self.uses.get(number, ())), default=0.0)
        return longest_s + self.works_s.get(number, 0.0)

    def used_by(self, numbers: Iterable[int]) -> set[int]:
        """The numbers that these bodies run, their own and those of all that they use."""
        found: set[int] = set()
        pending = list(numbers)
        while pending:
            number = pending.pop()
            if number not in found:
                found.add(number)
                pending += self.uses.get(number, ())
        return found


plan = Plan()


class Relays(ComputeService):
    @compute_method
    async def get(self, number: int) -> int:
        plan.begun[number] += 1
        plan.running[number] += 1
        try:
            values = await gather(*(self.get(used) for used in plan.uses.get(number, ())))
            await asyncio.sleep(plan.works_s.get(number, 0.0))
            return 1 + sum(values)
        finally:
            plan.running[number] -= 1

    @command
    async def read_and_run(self, number: int) -> int:
        plan.begun[-number] += 1
        plan.running[-number] += 1
        try:
            return await self.get(number)
        finally:
            plan.running[-number] -= 1


app = App("relays", services=[Relays])


@asynccontextmanager
async def relays(shards: int = 3, *, call_timeout_s: float = 10.0) -> AsyncIterator[tuple[LocalCluster, Plan]]:
    """A cluster in virtual time, and its plan, which is empty."""
    plan.__init__()  # type: ignore[misc]
    async with LocalCluster(app, shards=shards, call_timeout_s=call_timeout_s, runtime=VirtualRuntime()) as cluster:
        yield cluster, plan


def on_shard(cluster: LocalCluster, shard_id: int, *, beyond: int = 0) -> int:
    """Return a number greater than another whose value is computed on that shard."""
    slot = cluster.host.function("Relays.get").method.slot
    number = beyond + 1
    while cluster.slot_map.owners[slot((number,))] != shard_id:
        number += 1
    return number
