"""What is installed: a wheel with the path in C, a pure one where there is no compiler, an sdist that can make both."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

import hatch_build
from tests.native.processes import needs_compiler, passes, python

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

EXTENSION = hatch_build.EXTENSION.relative_to(hatch_build.ROOT).as_posix()
OFFLINE = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--no-cache-dir")
USE = """
import asyncio, sys
from pathlib import Path
import fusion_cluster, fusion_router, fusion_shards
from fusion_cluster import App, ComputeService, compute_method
from fusion_cluster.graph.core.hot_path import IS_NATIVE

class Numbers(ComputeService):
    @compute_method
    async def get(self, number: int) -> int:
        return 2 * number

async def main():
    async with App("numbers", services=[Numbers]).local(strict=False) as host:
        numbers = host.service(Numbers)
        assert [await numbers.get(3), await numbers.get(3)] == [6, 6]
        assert host.graph.stats.hits == 1

asyncio.run(main())
installed = Path(sys.argv[1])
extension = sys.modules.get("fusion_cluster.graph.core._speed", fusion_cluster)
for module in (fusion_cluster, fusion_router, fusion_shards, extension):
    assert Path(module.__file__).is_relative_to(installed), module
print("C" if IS_NATIVE else "pure Python", end="")
"""


def wheel(folder: Path, source: Path = hatch_build.ROOT, **environment: str) -> tuple[Path, str]:
    """Build a wheel of this checkout, or another folder, into `folder`; return it and what pip said."""
    run = python(["-m", "pip", "wheel", str(source), *OFFLINE, "-v", "-w", str(folder)],
                 environment={"FUSION_PURE_PYTHON": "", **environment})  # fmt: skip
    assert passes(run)
    (built,) = folder.glob("*.whl")
    return built, run.stdout


def path_of(installed: Path) -> str:
    """Use the package that is installed in a folder of its own; return its path, C or pure Python.

    Without `site`, so that the editable install of this checkout is not seen; what it depends on comes from beside it.
    """
    found = os.pathsep.join([str(installed), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    environment = {**os.environ, "PYTHONPATH": found, "FUSION_PURE_PYTHON": ""}
    run = subprocess.run(
        [sys.executable, "-S", "-c", USE, str(installed)],
        cwd=installed,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not run.returncode, run.stderr
    return run.stdout


def install(built: Path, folder: Path) -> Path:
    assert passes(python(["-m", "pip", "install", str(built), *OFFLINE, "--target", str(folder)]))
    return folder


@needs_compiler
def test_a_wheel_carries_the_extension_and_uses_it(tmp_path: Path) -> None:
    built, said = wheel(tmp_path / "wheels")
    names = zipfile.ZipFile(built).namelist()
    assert [name for name in names if name.endswith((".so", ".pyd", ".c", ".h"))] == [EXTENSION]
    assert f"cp{sys.version_info[0]}{sys.version_info[1]}" in built.name
    assert "was not built" not in said
    assert path_of(install(built, tmp_path / "installed")) == "C"


@pytest.mark.parametrize(
    ("compiler", "reason"), [("/bin/false", "/bin/false"), ("/nonexistent/cc", "there is no C compiler")]
)
def test_without_a_compiler_a_wheel_is_pure_and_one_line_says_why(compiler: str, reason: str, tmp_path: Path) -> None:
    built, said = wheel(tmp_path / "wheels", CC=compiler)
    (warning,) = (line for line in said.splitlines() if "was not built" in line)
    assert reason in warning
    assert built.name.endswith("-py3-none-any.whl")
    assert not [name for name in zipfile.ZipFile(built).namelist() if name.endswith((".so", ".pyd", ".c", ".h"))]
    assert path_of(install(built, tmp_path / "installed")) == "pure Python"


def test_a_wheel_is_pure_where_that_is_chosen(tmp_path: Path) -> None:
    built, said = wheel(tmp_path, FUSION_PURE_PYTHON="1")
    assert built.name.endswith("-py3-none-any.whl")
    assert "was not built" not in said


@needs_compiler
def test_a_wheel_can_be_made_of_the_sdist(tmp_path: Path) -> None:
    assert passes(python(["-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)]))
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as sdist:
        assert not [name for name in sdist.getnames() if name.endswith((".so", ".pyd"))]
        sdist.extractall(tmp_path, filter="data")
    built, _ = wheel(tmp_path / "wheels", archive.parent / archive.name.removesuffix(".tar.gz"))
    assert EXTENSION in zipfile.ZipFile(built).namelist()
