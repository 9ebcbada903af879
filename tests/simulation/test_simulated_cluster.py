"""A whole cluster in the simulator: seeds without a violation, and runs that repeat themselves exactly."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fusion_router.simulation.plan import ADD, Fault, Operation, Plan, plan_of
from fusion_router.simulation.run import run_plan
from fusion_router.simulation.settings import WorldSettings
from tests.thorough import times

ROOT = Path(__file__).resolve().parents[2]

SEEDS = times(200, 2_000)


def test_hundreds_of_seeds_show_no_violation() -> None:
    reads = changes = failures = 0
    for seed in range(SEEDS):
        outcome = run_plan(plan_of(seed))
        assert not outcome.violations, f"{outcome.violations}\n{outcome.plan}"
        reads += outcome.reads
        changes += outcome.changes
        failures += outcome.failures
    assert reads > 20 * SEEDS
    assert changes > 2 * SEEDS
    assert 0 < failures < changes


def hashes(seeds: range) -> list[str]:
    return [run_plan(plan_of(seed)).trace_hash for seed in seeds]


def test_a_plan_alone_decides_each_step() -> None:
    first = hashes(range(10))
    assert first == hashes(range(10))
    assert len(set(first)) == 10


def test_neither_hash_seeds_nor_the_hot_path_nor_the_process_decides_anything() -> None:
    program = f"from {__name__} import hashes; print(hashes(range(10)))"
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "FUSION_PURE_PYTHON": pure, "PYTHONPATH": str(ROOT)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed, pure in [("1", "0"), ("2", "1")]
    }
    assert found == {f"{hashes(range(10))}\n"}


@pytest.mark.parametrize("seed", range(10))
def test_the_plain_order_is_a_run_too(seed: int) -> None:
    plan = replace(plan_of(seed), is_plain=True)
    outcome = run_plan(plan)
    assert not outcome.violations
    assert outcome.trace_hash == run_plan(plan).trace_hash


@pytest.mark.parametrize("kind", ["crash", "pause", "cut", "cut one way", "slow", "reset"])
def test_each_fault_alone_is_survived(kind: str) -> None:
    calls = tuple(
        Operation(0.05 * index, "driver-0", ADD, index % 4, (("driver-0", "Sums.all"), ("shard-1", "Counters.value")))
        for index in range(8)
    )
    for seed in range(5):
        faults = (Fault(0.11, kind, "shard-0", "driver-0", 0.4), Fault(0.25, kind, "shard-1", "shard-0", 0.2))
        outcome = run_plan(Plan(seed, WorldSettings(shards=2), calls, faults))
        assert not outcome.violations
        assert outcome.changes > 2


@pytest.mark.parametrize("seed", range(10))
def test_the_coordinator_and_a_shard_crash_together_and_again(seed: int) -> None:
    calls = tuple(
        Operation(0.05 * index, "driver-0", ADD, index % 4, (("driver-0", "Sums.all"),)) for index in range(20)
    )
    crashes = ((0.2, "coordinator"), (0.2 + 0.02 * seed, "shard-0"), (0.6, "coordinator"))
    faults = tuple(Fault(at_s, "crash", machine, "", 0.0) for at_s, machine in crashes)
    outcome = run_plan(Plan(seed, WorldSettings(shards=2), calls, faults))
    assert not outcome.violations
    assert outcome.changes > 10
