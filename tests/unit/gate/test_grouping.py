"""A test gets to its worker by the fixtures that it uses; its name stays as a person would type it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.gate.inner import run_tests

FIXTURES = """
import os, pytest

@pytest.fixture(scope="session")
def ray_cluster():
    return "here"

@pytest.fixture
def launched(ray_cluster):
    return ray_cluster

@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    report.sections.append(("where", item.nodeid + " in " + os.environ["PYTEST_XDIST_WORKER"]))
    return report
"""
ON_RAY = """
import pytest

@pytest.mark.parametrize("number", range(5))
def test_directly(ray_cluster, number): assert not number

def test_through_another(launched): assert not launched
"""
PLAIN = """
import pytest

@pytest.mark.parametrize("thing", [object(), object()], ids=repr)
def test_plain(thing): assert thing is None

@pytest.mark.ray
def test_marked(): assert False
"""


@pytest.mark.timeout(300)
def test_tests_of_one_fixture_meet_in_one_worker_wherever_they_stand(tmp_path: Path) -> None:
    files = {"conftest.py": FIXTURES, "test_a.py": ON_RAY, "test_b.py": ON_RAY, "test_c.py": PLAIN}
    output = run_tests(tmp_path, files, "-n2", "-p", "tests.grouping", "-p", "no:timeout", "-W", "ignore", "-rf")
    places = dict(re.findall(r"^(\S.*)@ray in (gw\d)$", output, re.MULTILINE))
    assert len(places) == 11, output  # those of which `number` is 0 pass
    assert len(set(places.values())) == 1, output
    failed = re.findall(r"^FAILED (\S+)", output, re.MULTILINE)
    assert "test_a.py::test_directly[1]" in failed
    assert "test_c.py::test_marked" in failed
    assert not [name for name in failed if "@" in name or "0x" in name]
