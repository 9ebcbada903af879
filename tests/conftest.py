"""What holds for all tests: which path of the graph they are about, told in the header; how they are shared out among
workers; that they leave nothing behind; and what Hypothesis may take its time for.
"""

from __future__ import annotations

import gc
import os

import hypothesis
import pytest

import hatch_build
from fusion_cluster.client.strangers import PROXIES
from fusion_cluster.graph.core.hot_path import IS_NATIVE

pytest_plugins = ["tests.grouping", "tests.left_behind", "tests.outcome"]

# A machine that has much to do is slow, which is no fault.
hypothesis.settings.register_profile("patient", deadline=None, print_blob=True)
hypothesis.settings.load_profile("patient")


def pytest_report_header() -> str:
    return f"graph path: {'C' if IS_NATIVE else 'pure Python'}"


def pytest_configure() -> None:
    for name in PROXIES:  # tests talk to this machine alone
        for variable in (name, name.upper()):
            os.environ.pop(variable, None)
    if (complaint := _wrong_path()) is not None:
        raise pytest.UsageError(complaint)


def pytest_collection_finish() -> None:
    forget_what_is_there()


@pytest.fixture(scope="module", autouse=True)
def small_heap() -> None:
    """Keep the runs of the garbage collector short, for which tests ask: after thousands of tests one takes 0.5 s."""
    forget_what_is_there()


def forget_what_is_there() -> None:
    """Let the garbage collector skip, from now on, what is in use now."""
    gc.collect()
    gc.freeze()


def _wrong_path() -> str | None:
    if hatch_build.is_pure_python_chosen():
        return "FUSION_PURE_PYTHON is set, and the graph runs in C all the same" if IS_NATIVE else None
    if not hatch_build.SOURCE.exists() or hatch_build.compiler() is None:
        return None
    if not hatch_build.is_up_to_date():
        return "the graph's path in C is not built from its present source: `make install`, or FUSION_PURE_PYTHON=1"
    if not IS_NATIVE:
        return f"the graph's path in C is built but not used: ask `python -c 'import {hatch_build.MODULE}'` why"
    return None
