"""The source files of the project as syntax trees, for the tests of the architecture."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("fusion_cluster", "router/fusion_router", "shards/fusion_shards")
PROGRAMS = ("examples", "benchmarks", "loadtest", "k8s", "tools")
GENERATED = ROOT / "fusion_cluster" / "v1"


@dataclass(frozen=True)
class Import:
    """One import: the module it names, and whether it runs when the importing module is imported."""

    module: str
    line: int
    is_eager: bool


@dataclass(frozen=True)
class Source:
    """One Python file."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @property
    def text(self) -> str:
        return self.path.read_text()

    @property
    def tree(self) -> ast.Module:
        return _parse(self.path)

    @property
    def module(self) -> str:
        parts = self.path.relative_to(ROOT).with_suffix("").parts
        parts = parts[1:] if "/".join(parts[:2]) in PACKAGES else parts
        return ".".join(parts).removesuffix(".__init__")

    def imports(self) -> Iterator[Import]:
        """Every import but those for type checkers alone."""
        yield from _imports(self.tree, is_eager=True)


@cache
def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def _imports(node: ast.AST, *, is_eager: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, is_eager) for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module is not None:
            yield Import(child.module, child.lineno, is_eager)
            yield from (Import(f"{child.module}.{alias.name}", child.lineno, is_eager) for alias in child.names)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for branch in child.orelse:
                yield from _imports(branch, is_eager=is_eager)
        else:
            is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(child, is_eager=is_eager and not is_function)


def sources(*folders: str) -> list[Source]:
    """The hand-written Python files below these folders, in order."""
    paths = (path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))
    return [Source(path) for path in paths if GENERATED not in path.parents and "__pycache__" not in path.parts]


def documents() -> list[Path]:
    """The Markdown files for readers."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "k8s").rglob("*.md")]
    return sorted([*found, *(ROOT / "examples").rglob("*.md")])
