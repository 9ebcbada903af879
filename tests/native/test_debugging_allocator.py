"""The graph under Python's own checks: the debugging allocator, asyncio's debug mode, warnings of what is left open."""

from __future__ import annotations

import pytest

from tests.native.processes import GRAPH_TESTS, passes, python

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_the_tests_of_the_graph_pass_in_development_mode() -> None:
    assert passes(python(["-X", "dev", *GRAPH_TESTS], environment={"PYTHONMALLOC": "debug"}))


def test_a_graphs_life_at_random_passes_in_development_mode() -> None:
    workload = ["-X", "dev", "-m", "tests.native.workload", "--seeds", "12"]
    assert passes(python(workload, environment={"PYTHONMALLOC": "debug"}))
