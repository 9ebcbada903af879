"""Runs a module of Python with another build of the graph's extension in the place of the installed one.

    python substituted.py path/to/_speed.so -m pytest tests/unit/graph

Invariant: when the extension was not imported from that path, the run fails, whatever else it says.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from types import ModuleType

MODULE = "fusion_cluster.graph.core._speed"
NOT_USED = 97
"""Exit status of a run that did not import the extension it was given."""


class Substitution(MetaPathFinder):
    """Finds `MODULE` at `path`; leaves all others to the finders after it."""

    def __init__(self, path: str) -> None:
        self.path = path

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return spec_from_file_location(MODULE, self.path) if fullname == MODULE else None


def main(path: str, dash_m: str, module: str, *arguments: str) -> None:
    assert dash_m == "-m"
    sys.path[0] = os.getcwd()
    sys.meta_path.insert(0, Substitution(path))
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code:
            raise
    extension = sys.modules.get(MODULE)
    if extension is None or extension.__file__ != path:
        print(f"{MODULE} is {extension}, not {path}", file=sys.stderr)
        sys.exit(NOT_USED)


if __name__ == "__main__":
    main(*sys.argv[1:])
