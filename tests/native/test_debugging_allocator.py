"""The graph under Python's own checks: the debugging allocator, asyncio's debug mode, warnings of what is left open."""

from __future__ import annotations

import pytest

from tests.native.processes import FEWER_STEPS, GRAPH_TESTS, WORKLOAD, passes, python

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

DEBUGGING = {"PYTHONMALLOC": "debug"}


def test_the_property_tests_of_the_graph_pass_in_development_mode() -> None:
    assert passes(python(["-X", "dev", *GRAPH_TESTS], environment={**DEBUGGING, **FEWER_STEPS}))


def test_a_graphs_life_at_random_passes_in_development_mode() -> None:
    assert passes(python(["-X", "dev", *WORKLOAD], environment=DEBUGGING))
