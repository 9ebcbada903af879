"""The path in C under the address and the undefined behaviour sanitizer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.native import substituted
from tests.native.processes import (
    FEWER_STEPS,
    GRAPH_TESTS,
    SANITIZE,
    WORKLOAD,
    compiled,
    passes,
    python,
    sanitizer_environment,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SUBSTITUTED = substituted.__file__
FAULTY = """
#include <Python.h>
static PyObject *overrun(PyObject *self, PyObject *size) {
    char *bytes = PyMem_Malloc(16);
    char read = bytes[PyLong_AsLong(size)];
    PyMem_Free(bytes);
    return PyLong_FromLong(read);
}
static PyObject *shift(PyObject *self, PyObject *bits) { return PyLong_FromLong(1 << PyLong_AsLong(bits)); }
static PyMethodDef methods[] = {{"overrun", overrun, METH_O, ""}, {"shift", shift, METH_O, ""}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "faulty", .m_methods = methods};
PyMODINIT_FUNC PyInit_faulty(void) { return PyModuleDef_Init(&module); }
"""


@pytest.fixture
def environment() -> dict[str, str]:
    return sanitizer_environment()


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sanitizer_environment()
    return compiled(tmp_path_factory.mktemp("sanitized"), SANITIZE)


@pytest.mark.parametrize(
    ("fault", "report"),
    [("overrun(16)", "AddressSanitizer: heap-buffer-overflow"), ("shift(40)", "runtime error: shift exponent")],
)
def test_a_fault_is_found(fault: str, report: str, environment: dict[str, str], tmp_path: Path) -> None:
    source = tmp_path / "faulty.c"
    source.write_text(FAULTY)
    compiled(tmp_path, SANITIZE, source, "faulty")
    harmless, faulty = (f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import faulty; faulty.{call}"
                        for call in ("overrun(15), faulty.shift(3)", fault))  # fmt: skip
    assert passes(python(["-c", harmless], environment=environment))
    run = python(["-c", faulty], environment=environment)
    assert run.returncode
    assert report in run.stdout


def test_a_run_that_does_not_use_the_extension_it_is_given_fails(tmp_path: Path) -> None:
    run = python([SUBSTITUTED, str(tmp_path / "_speed.so"), "-m", "this"])
    assert run.returncode == substituted.NOT_USED


def test_the_property_tests_of_the_graph_find_no_fault(sanitized: Path, environment: dict[str, str]) -> None:
    assert passes(python([SUBSTITUTED, str(sanitized), *GRAPH_TESTS], environment={**environment, **FEWER_STEPS}))


def test_a_graphs_life_at_random_finds_no_fault(sanitized: Path, environment: dict[str, str]) -> None:
    assert passes(python([SUBSTITUTED, str(sanitized), *WORKLOAD], environment=environment))
