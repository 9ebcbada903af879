"""The extension of a checkout: built when it is not there, or when what it is made of is newer; never a failure."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import hatch_build
from tests.native.processes import needs_compiler

SOURCE = """
#include "native/part.h"
#include <Python.h>
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = NAME};
PyMODINIT_FUNC PyInit__speed(void) { return PyModuleDef_Init(&module); }
"""
PART = '#define NAME "fusion_cluster.graph.core._speed"'


@pytest.fixture
def part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that the extension is made of; the extension and its source stand beside it."""
    source = tmp_path / "_speed.c"
    source.write_text(SOURCE)
    part = tmp_path / "native" / "part.h"
    part.parent.mkdir()
    part.write_text(PART)
    monkeypatch.setattr(hatch_build, "SOURCE", source)
    monkeypatch.setattr(hatch_build, "EXTENSION", source.with_suffix(hatch_build.SUFFIX))
    monkeypatch.delenv("FUSION_PURE_PYTHON", raising=False)
    return part


def change(path: Path) -> None:
    later = hatch_build.EXTENSION.stat().st_mtime_ns + 1_000_000_000
    os.utime(path, ns=(later, later))


@needs_compiler
def test_it_is_built_when_it_is_not_there_and_when_a_part_of_its_source_is_newer(part: Path) -> None:
    hatch_build.main([])
    assert hatch_build.is_up_to_date()
    first = hatch_build.EXTENSION.stat().st_ino
    hatch_build.main([])
    assert hatch_build.EXTENSION.stat().st_ino == first, "built without need"
    change(part)
    assert not hatch_build.is_up_to_date()
    hatch_build.main([])
    assert hatch_build.is_up_to_date()
    assert hatch_build.EXTENSION.stat().st_ino != first


@needs_compiler
def test_one_that_can_no_longer_be_built_does_not_stay(part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hatch_build.main([])
    change(part)
    monkeypatch.setenv("CC", "/nonexistent/cc")
    hatch_build.main([])
    assert not hatch_build.EXTENSION.exists()


@needs_compiler
def test_one_that_does_not_compile_is_told_with_the_compilers_words(
    part: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part.write_text("#define NAME 1 }")
    hatch_build.main([])
    said = capsys.readouterr().err
    (warning,) = (line for line in said.splitlines() if line.startswith("warning:"))
    assert "error: " in warning
    assert "#define NAME 1 }" in said
    assert not hatch_build.EXTENSION.exists()


def test_without_a_compiler_one_line_says_so(
    part: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "/nonexistent/cc")
    hatch_build.main([])
    (line,) = capsys.readouterr().err.splitlines()
    assert "there is no C compiler" in line
    assert not hatch_build.EXTENSION.exists()


@pytest.mark.usefixtures("part")
def test_nothing_is_built_where_pure_python_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSION_PURE_PYTHON", "1")
    hatch_build.main([])
    assert not hatch_build.EXTENSION.exists()
    monkeypatch.setenv("FUSION_PURE_PYTHON", "0")
    assert not hatch_build.is_pure_python_chosen()
