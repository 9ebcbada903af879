"""Shrinking: from a plan whose run shows a fault to a smaller plan that shows the same.

Invariant: each plan that is taken over has shown a violation of the kind that is looked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final, TypeVar

from fusion_router.simulation.plan import Plan
from fusion_router.simulation.run import Outcome, run_plan

T = TypeVar("T")

MOST_RUNS: Final = 300
"""A shrink ends after so many runs, wherever it is then."""


def kind_of(outcome: Outcome) -> str:
    """Return the kind of the first violation of a run; empty if it has none."""
    return outcome.violations[0].split(":")[0] if outcome.violations else ""


def shrink(outcome: Outcome, run: Callable[[Plan], Outcome] = run_plan) -> Outcome:
    """Return the run of a plan with fewer faults and calls, in a plainer order, that shows the same kind of violation.

    Args:
        outcome: a run with a violation.
        run: carries a plan out.
    """
    kind = kind_of(outcome)
    runs_left = MOST_RUNS
    is_smaller = True
    while is_smaller and runs_left:
        is_smaller = False
        for plan in _smaller(outcome.plan):
            if not runs_left:
                break
            runs_left -= 1
            found = run(plan)
            if kind_of(found) == kind:
                outcome, is_smaller = found, True
                break
    return outcome


def _smaller(plan: Plan) -> Iterator[Plan]:
    """Go through smaller plans, those that leave out the most first."""
    if not plan.is_plain:
        yield replace(plan, is_plain=True)
    for faults in _shorter(plan.faults):
        yield replace(plan, faults=faults)
    for operations in _shorter(plan.operations):
        yield replace(plan, operations=operations)
    for index, operation in enumerate(plan.operations):
        for echoes in _shorter(operation.echoes):
            changed = replace(operation, echoes=echoes)
            yield replace(plan, operations=(*plan.operations[:index], changed, *plan.operations[index + 1 :]))


def _shorter(steps: tuple[T, ...]) -> Iterator[tuple[T, ...]]:
    """Go through what is left of steps without half of them, without a quarter, and so on, down to without one."""
    size = (len(steps) + 1) // 2
    while size:
        for begin in range(0, len(steps), size):
            yield (*steps[:begin], *steps[begin + size :])
        size //= 2
