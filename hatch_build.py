"""Builds the graph's hit path in C, `fusion_cluster.graph.core._speed`, into wheels and editable installs.

hatchling calls `SpeedBuildHook`; `python hatch_build.py` builds in place what is not up to date (`make` does so before
every target that runs the code). The compiler runs under setuptools, in a process of its own.

Invariant: nothing here makes an installation fail. Without a compiler, or when compiling fails, one line says why and
the package is pure Python; `FUSION_PURE_PYTHON=1` asks for that.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.builders.wheel import WheelBuilderConfig

ROOT = Path(__file__).resolve().parent
MODULE = "fusion_cluster.graph.core._speed"
SOURCE = ROOT / "fusion_cluster" / "graph" / "core" / "_speed.c"
SUFFIX = str(sysconfig.get_config_var("EXT_SUFFIX"))
EXTENSION = SOURCE.with_suffix(SUFFIX)
"""Where this Python finds the extension of an editable install."""
FLAGS = () if os.name == "nt" else ("-O3", "-fvisibility=hidden")


class NotBuilt(Exception):
    """The extension was not built: the message is the reason, in one line.

    Attributes:
        output: all that the compiler said.
    """

    def __init__(self, reason: str, output: str = "") -> None:
        super().__init__(reason)
        self.output = output

    @property
    def warning(self) -> str:
        """What to tell whoever installs."""
        return f"{MODULE} was not built, the graph will run as pure Python, slower: {self}"


def is_pure_python_chosen() -> bool:
    """Tell whether `FUSION_PURE_PYTHON` asks for no C."""
    return os.environ.get("FUSION_PURE_PYTHON", "") not in ("", "0")


def compiler() -> str | None:
    """Return the path of the C compiler that a build would use, None if there is none."""
    command = os.environ.get("CC") or str(sysconfig.get_config_var("CC") or "cc")
    return shutil.which(command.split()[0])


def is_up_to_date() -> bool:
    """Tell whether the extension in place is made of what its sources and this file say now."""
    return EXTENSION.exists() and EXTENSION.stat().st_mtime_ns >= _newest_input_ns()


def build(folder: Path, *, source: Path = SOURCE, module: str = MODULE, flags: Sequence[str] = FLAGS) -> Path:
    """Compile the extension `module` into `folder`; return the file.

    Args:
        folder: an existing folder.
        source: the C file.
        module: the full name under which it is imported.
        flags: for the compiler; those of sanitizers go to the linker too.

    Raises:
        NotBuilt: there is no compiler, or it failed.
    """
    if sys.implementation.name != "cpython":
        raise NotBuilt(f"it is for CPython, this is {sys.implementation.name}")
    if os.name != "nt" and compiler() is None:
        raise NotBuilt("there is no C compiler")
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, __file__, "compile", module, str(source), scratch, *flags]
        result = subprocess.run(command, cwd=scratch, capture_output=True, text=True, errors="replace", check=False)
        if result.returncode:
            output = result.stdout + result.stderr
            reasons = [line for line in output.splitlines() if "error:" in line] or ["the compiler failed"]
            raise NotBuilt(textwrap.shorten(reasons[0], 160, placeholder=" …"), output)
        built = Path(scratch, *module.split(".")).with_suffix(SUFFIX)
        return Path(shutil.copy2(built, folder))


def build_in_place() -> None:
    """Compile the extension into the package, in the place of one that was made of older sources.

    Raises:
        NotBuilt: there is no compiler, or it failed; then there is no extension.
    """
    made_of_ns = _newest_input_ns()  # as it is now: a source that changes under the compiler is newer
    with tempfile.TemporaryDirectory() as folder:
        try:
            built = build(Path(folder), source=SOURCE)
        except NotBuilt:
            EXTENSION.unlink(missing_ok=True)
            raise
        fresh = EXTENSION.with_name(f"{EXTENSION.name}.{os.getpid()}")
        shutil.copyfile(built, fresh)
    os.utime(fresh, ns=(made_of_ns, made_of_ns))
    fresh.replace(EXTENSION)  # processes that have mapped the old one keep it


class SpeedBuildHook(BuildHookInterface[WheelBuilderConfig]):
    """Adds the extension to a wheel, or builds it in place for an editable install."""

    PLUGIN_NAME = "custom"

    _folder: tempfile.TemporaryDirectory[str] | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build before hatchling collects files; see `BuildHookInterface.initialize`."""
        if is_pure_python_chosen() or not SOURCE.exists():
            return
        try:
            if version == "editable":
                build_in_place()
                return
            self._folder = tempfile.TemporaryDirectory()
            built = build(Path(self._folder.name))
        except NotBuilt as reason:
            self.app.display_warning(f"warning: {reason.warning}")
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["force_include"][str(built)] = f"{SOURCE.parent.relative_to(ROOT).as_posix()}/{built.name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Clean up once the wheel is written; see `BuildHookInterface.finalize`."""
        if self._folder is not None:
            self._folder.cleanup()


def _newest_input_ns() -> int:
    inputs = [Path(__file__), *SOURCE.parent.rglob("*.[ch]")]
    return max(path.stat().st_mtime_ns for path in inputs)


def _compile(module: str, source: str, folder: str, *flags: str) -> None:
    from setuptools import Distribution, Extension
    from setuptools.command.build_ext import build_ext

    to_linker = [flag for flag in flags if flag.startswith("-fsanitize")]
    extension = Extension(module, [source], extra_compile_args=list(flags), extra_link_args=to_linker)
    command = build_ext(Distribution({"ext_modules": [extension]}))
    command.build_lib = command.build_temp = folder
    command.ensure_finalized()
    command.run()


def main(arguments: Sequence[str]) -> None:
    """Build in place what is not up to date; or, for `build`, compile."""
    if arguments[:1] == ["compile"]:
        try:
            _compile(*arguments[1:])
        except Exception as error:  # of many kinds: a compiler that is missing, broken, or refuses the source
            sys.exit(f"error: {error}")
        return
    if is_pure_python_chosen() or not SOURCE.exists() or is_up_to_date():
        return
    print(f"building {MODULE}", flush=True)
    try:
        build_in_place()
    except NotBuilt as reason:
        print(f"{reason.output}warning: {reason.warning}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
