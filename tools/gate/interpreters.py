"""Finds other versions of Python, wherever they come from, and gives each the few packages that the graph's tests need.

The environment of Python 3.12 is `.venv-3.12`. It is made once, and again when what it needs has changed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

TOOLS = frozenset(
    {"hatchling", "setuptools", "psutil", "numpy", "pyarrow", "pydantic", "hypothesis"}
    | {"pytest", "pytest-asyncio", "pytest-timeout", "pytest-xdist", "pytest-randomly"}
)
"""Of what is installed for development, all that the tests of the graph import."""

WHERE = "on PATH, in ~/.pyenv, from uv, or beside the Python of this environment"


class NoEnvironment(Exception):
    """There is no environment of that version; the message says why."""


def needed() -> list[str]:
    """Return what the library itself needs, and `TOOLS`, with the bounds of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = (requirement for extra in project["optional-dependencies"].values() for requirement in extra)
    tools = {requirement for requirement in extras if re.split(r"[^\w-]", requirement)[0] in TOOLS}
    return sorted({*project["dependencies"], *tools})


def find(version: str) -> Path | None:
    """Return a Python of this version ("3.12") that runs; None: there is none.

    It is looked for on PATH, among those of pyenv and uv, and beside the one that runs this.
    """
    return next((path for path in _candidates(version) if _is_of(version, path)), None)


def environment(version: str) -> Path:
    """Return the Python of this version's environment; make the environment where it is missing or outdated.

    Raises:
        NoEnvironment: there is no such Python, or installing failed.
    """
    interpreter = find(version)
    if interpreter is None:
        raise NoEnvironment(f"there is no Python {version} here ({WHERE})")
    folder = ROOT / f".venv-{version}"
    python, stamp = folder / "bin" / "python", folder / "made-of"
    requirements = needed()
    made_of = hashlib.sha256("\n".join((str(interpreter), *requirements)).encode()).hexdigest()
    if python.exists() and stamp.exists() and stamp.read_text() == made_of:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    # Only what the tests import is compiled, when they import it.
    pip = [str(python), "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"]
    pip.append("--prefer-binary")
    for command in ([str(interpreter), "-m", "venv", str(folder)], [*pip, *requirements]):
        run = subprocess.run(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        if run.returncode:
            raise NoEnvironment(f"{folder.name} could not be made: {run.stdout.strip()[-500:]}")
    stamp.write_text(made_of)
    return python


def _candidates(version: str) -> Iterator[Path]:
    name = f"python{version}"
    if "{}.{}".format(*sys.version_info) == version:
        yield Path(sys.executable)
    if found := shutil.which(name):
        yield Path(found)
    beside = Path(sys.base_prefix).parent  # pyenv, uv and asdf keep one folder for each version
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    uv = Path.home() / ".local" / "share" / "uv" / "python"
    for folder in (beside, pyenv, uv):
        yield from sorted(folder.glob(f"*{version}*/bin/{name}"), reverse=True)
    if uv_program := shutil.which("uv"):
        command = [uv_program, "python", "find", "--no-python-downloads", version]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode == 0:
            yield Path(run.stdout.strip())


def _is_of(version: str, path: Path) -> bool:
    """A shim of pyenv exists for versions that are not chosen, and fails."""
    command = [str(path), "-c", "import sys; print('{}.{}'.format(*sys.version_info))"]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return run.returncode == 0 and run.stdout.strip() == version
