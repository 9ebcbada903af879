"""Which path of the graph a run of the tests is about: told in its header, and never the wrong one without a word."""

from __future__ import annotations

import pytest

import hatch_build
from fusion_cluster.graph.core import IS_NATIVE


def pytest_report_header() -> str:
    return f"graph path: {'C' if IS_NATIVE else 'pure Python'}"


def pytest_configure() -> None:
    if (complaint := _wrong_path()) is not None:
        raise pytest.UsageError(complaint)


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
