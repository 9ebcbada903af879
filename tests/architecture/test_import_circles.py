"""No module needs another one that needs it: neither when it is imported, nor later, nor for its types.

import-linter checks the layers. It looks at packages; this looks at each module, and takes what stands under
`TYPE_CHECKING` and in functions for an import like any other.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator

from tests.architecture.sources import PACKAGES, Source, sources

SEAMS = {
    ("fusion_cluster.app", "fusion_shards.cluster"),  # App.cluster(): docs/adr/0003-nested-packages.md
    ("fusion_cluster.testing", "fusion_router.local_cluster"),  # LocalCluster: the same
}
"""The composition seams: imports that run when a public name is used, and lead up."""


def module_graph() -> dict[str, set[str]]:
    """Return what each module imports; `from package import module` is an import of the module."""
    known = {source.module: source for source in sources(*PACKAGES)}
    return {
        name: {
            module
            for module in imported(source, known)
            if module in known and module != name and (name, module) not in SEAMS
        }
        for name, source in known.items()
    }


def imported(source: Source, known: Collection[str]) -> Iterator[str]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source.name}:{node.lineno}: a relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else str(node.module)


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the sets of modules that reach each other (Tarjan's strongly connected components), without recursion."""
    numbers: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []
    found: list[list[str]] = []
    for root in graph:
        pending = [(root, iter(graph[root]))] if root not in numbers else []
        while pending:
            module, targets = pending[-1]
            if module not in numbers:
                numbers[module] = lowest[module] = len(numbers)
                path.append(module)
            for target in targets:
                if target not in numbers:
                    pending.append((target, iter(graph[target])))
                    break
                if target in path:
                    lowest[module] = min(lowest[module], numbers[target])
            else:
                pending.pop()
                if pending:
                    outer = pending[-1][0]
                    lowest[outer] = min(lowest[outer], lowest[module])
                if lowest[module] == numbers[module]:
                    component = path[path.index(module) :]
                    del path[path.index(module) :]
                    if len(component) > 1:
                        found.append(sorted(component))
    return found


def test_a_circle_is_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": {"a", "e"}, "e": set(), "f": {"g"}, "g": {"f", "e"}}
    assert sorted(circles(graph)) == [["a", "b", "c", "d"], ["f", "g"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_no_module_is_part_of_an_import_circle() -> None:
    graph = module_graph()
    assert len(graph) > 200
    described = [
        "\n".join(f"{name} -> {', '.join(sorted(graph[name] & set(circle)))}" for name in circle)
        for circle in circles(graph)
    ]
    assert not described, "\n\n".join(described)


def test_the_seams_are_there() -> None:
    known = {source.module: source for source in sources(*PACKAGES)}
    assert {(name, module) for name, source in known.items() for module in imported(source, known)} >= SEAMS
