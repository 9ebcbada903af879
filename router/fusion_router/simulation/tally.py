"""Many seeds, and what they have shown together."""

from __future__ import annotations

from dataclasses import dataclass, field

from fusion_router.simulation.plan import plan_of
from fusion_router.simulation.run import Outcome, run_plan


@dataclass
class Tally:
    """What seeds have shown together.

    Attributes:
        seeds: how many there were.
        reads: how many reads were checked.
        changes: how many commands were confirmed.
        failures: how many calls ended with an expected error.
        steps: how many steps were taken.
        failing: the seeds with violations.
    """

    seeds: int = 0
    reads: int = 0
    changes: int = 0
    failures: int = 0
    steps: int = 0
    failing: list[int] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Add a run."""
        self.seeds += 1
        self.reads += outcome.reads
        self.changes += outcome.changes
        self.failures += outcome.failures
        self.steps += outcome.steps
        if outcome.violations:
            self.failing.append(outcome.plan.seed)

    def merge(self, other: Tally) -> None:
        """Add what other seeds have shown."""
        self.seeds += other.seeds
        self.reads += other.reads
        self.changes += other.changes
        self.failures += other.failures
        self.steps += other.steps
        self.failing += other.failing


def run_seeds(first: int, count: int) -> Tally:
    """Run seeds one after the other."""
    tally = Tally()
    for seed in range(first, first + count):
        tally.add(run_plan(plan_of(seed)))
    return tally
