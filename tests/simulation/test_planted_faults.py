"""Faults planted into the production code are found by seeds of the standard scenario, and shrink to a few steps."""

from __future__ import annotations

import pytest

from fusion_router.simulation.__main__ import main
from fusion_router.simulation.plan import Plan, plan_of
from fusion_router.simulation.run import Outcome, run_plan
from fusion_router.simulation.shrinking import kind_of, shrink
from tests.simulation import planted

MOST_SEEDS = 1_000
"""Each fault is found sooner; see docs/simulation.md for how often."""

# Fault → the kinds of violations that show it.
FOUND_AS = {
    planted.skip_the_fence: {"stale"},
    planted.leases_that_last_too_long: {"stale"},
    planted.acknowledge_a_barrier_early: {"stale"},
    planted.forget_the_barrier: {"stale"},
    planted.forget_a_subscriber: {"stale", "lost invalidation", "asymmetric"},
    planted.successor_that_does_not_wait: {"stale"},
    planted.keep_the_replicas_of_a_lost_link: {"stale", "lost invalidation", "asymmetric"},
    planted.give_no_subscription_up: {"asymmetric"},
    planted.change_twice: {"not once"},
    planted.crash_with_a_living_twin: {"two owners", "not whole", "endless"},
    planted.versions_that_begin_anew: {"not whole"},
}


def first_failure() -> Outcome:
    for seed in range(MOST_SEEDS):
        outcome = run_plan(plan_of(seed))
        if outcome.violations:
            return outcome
    raise AssertionError(f"{MOST_SEEDS} seeds have not found it")


@pytest.mark.parametrize("fault", FOUND_AS, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_found(fault: planted.Planted) -> None:
    with fault():
        outcome = first_failure()
    assert kind_of(outcome) in FOUND_AS[fault]
    assert not run_plan(outcome.plan).violations, "the fault alone has made the run fail"


def test_no_planted_fault_is_left_out() -> None:
    assert set(FOUND_AS) == set(planted.ALL)


def test_a_failing_plan_shrinks_to_what_the_fault_needs() -> None:
    with planted.forget_the_barrier():
        outcome = first_failure()
        smallest = shrink(outcome)
        again = run_plan(smallest.plan)
    assert kind_of(smallest) == kind_of(outcome)
    assert not smallest.plan.faults
    assert len(smallest.plan.operations) <= 2
    assert again == smallest


def test_a_shrink_tries_no_more_plans_than_it_may() -> None:
    runs = 0

    def run(_plan: Plan) -> Outcome:
        nonlocal runs
        runs += 1
        return first

    with planted.change_twice():
        first = first_failure()
    shrink(first, run)
    assert runs <= 300


def test_the_command_shows_a_failing_seed_its_smallest_form_and_how_to_repeat_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with planted.change_twice():
        seed = first_failure().plan.seed
        assert main(["--seeds", "2", "--first", str(seed)]) == 1
    shown = capsys.readouterr().out
    assert "not once" in shown
    assert "the same with less" in shown
    assert f"repeat it: make simulate SEED={seed}" in shown


def test_the_command_sums_up_what_seeds_have_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "3"]) == 0
    assert "3 seeds" in capsys.readouterr().out
    assert main(["--seed", "1"]) == 0
    assert "no violation" in capsys.readouterr().out
