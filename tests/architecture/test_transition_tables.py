"""Transition tables are the whole truth: nothing changes a state past them, and nothing in them is dead."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.architecture.sources import ROOT, Source, sources
from tools.diagrams import DOCUMENT, TABLES, drawn

MACHINES = "fusion_cluster/protocol", "fusion_cluster/graph", "fusion_cluster/commands"
STATES = {"state", "_state"}
FIRST = {"DETACHED", "WAITING", "COMPUTING", "OPEN"}
"""The states that machines begin in: what constructors assign."""


def assignments(source: Source) -> Iterator[tuple[ast.AST, ast.Assign]]:
    """Go through what changes a state, each with the function it is in."""
    for function in ast.walk(source.tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Assign) and any(
                    isinstance(target, ast.Attribute) and target.attr in STATES for target in node.targets
                ):
                    yield function, node


def is_from_a_table(value: ast.expr, function: ast.AST) -> bool:
    text = ast.unparse(value)
    if re.match(r"_?ON_[A-Z_]+(\[\w+\])?(\[|\.get\()|next_\w+\(|\(_?ON_\w+ if .* else _?ON_\w+\)\[", text):
        return True
    name = getattr(function, "name", "")
    if name in ("__init__", "adopt") and text.rpartition(".")[2] in FIRST:
        return True
    if not isinstance(value, ast.Name):
        return False
    origins = [
        node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        and any(isinstance(target, ast.Name) and target.id == value.id for target in node.targets)
    ]
    return bool(origins) and all(is_from_a_table(origin, function) for origin in origins)


@pytest.mark.parametrize("folder", MACHINES)
def test_no_state_changes_past_its_table(folder: str) -> None:
    found = [(source, *one) for source in sources(folder) for one in assignments(source)]
    assert found, "the rule looks at nothing"
    strangers = [
        f"{source.name}:{node.lineno} {ast.unparse(node)}"
        for source, function, node in found
        if not is_from_a_table(node.value, function)
    ]
    assert not strangers


@pytest.mark.parametrize("name", TABLES)
def test_every_event_of_a_table_is_sent_by_somebody(name: str) -> None:
    events = {event for row in TABLES[name].values() for event in row}
    kind: Any = type(next(iter(events)))
    assert events == set(kind), "an event that no state allows"
    module = kind.__module__.replace(".", "/") + ".py"
    senders = [source.text for source in sources("fusion_cluster") if source.name != module]
    table = next(source.text for source in sources("fusion_cluster") if source.name == module)
    rows = re.findall(rf"(?m)^ON_\w+: Final = _on\({kind.__name__}\.(\w+)\)", table)  # rows that senders import
    sent = set(rows) | {event for text in senders for event in re.findall(rf"{kind.__name__}\.([A-Z_]+)", text)}
    assert not {event.name for event in events} - sent


@pytest.mark.parametrize("name", TABLES)
def test_every_state_of_a_table_has_a_row_and_is_left_or_reached(name: str) -> None:
    table = TABLES[name]
    kind: Any = type(next(iter(table)))
    states = set(kind)
    assert set(table) == states
    reached = {following for row in table.values() for following in row.values()}
    assert all(state in reached or state.name in {*FIRST, "RUNNING", "REQUESTED"} for state in states)


def test_the_diagrams_are_those_of_the_tables() -> None:
    text = DOCUMENT.read_text()
    assert text == drawn(text), "run: python -m tools.diagrams"
    missing = [name for name in TABLES if f"<!-- table: {name} -->" not in text]
    assert not missing, f"{DOCUMENT.relative_to(ROOT)} does not show them"
