"""What a reader may count on in every file: a purpose stated, one idea, names of the field, no sleeping tests."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.architecture.sources import PACKAGES, PROGRAMS, Source, sources

MAX_LINES = 400
# File → why it is one idea and still that long.
LONG_FILES = {
    "fusion_cluster/protocol/owner.py": "the owner's end of a session, one state machine seen whole",
    "fusion_cluster/protocol/caller_calls.py": "the life of a call at the caller's end, one state machine seen whole",
    "fusion_cluster/link/peer.py": "where a session, its carriers and its callers meet; half of it is docstrings",
    "tests/property/test_session_machine.py": "one state machine; half of it steers to rare interleavings",
    "tests/unit/commands/test_commands.py": "the cases of one subject",
    "tests/unit/commands/test_operations.py": "the cases of one subject",
    "tests/unit/graph/test_eager_start.py": "the cases of one subject",
    "tests/unit/graph/test_odd_errors.py": "the cases of one subject",
    "tests/unit/link/test_peer_over_memory.py": "the cases of one subject",
}

FORBIDDEN_WORDS = {
    "manager", "managers", "util", "utils", "utility", "helper", "helpers", "common", "base", "misc",
}  # fmt: skip

# Where an __init__.py may hold more than names of its package, and why.
SPEAKING_INITS = {
    "fusion_cluster/testing/__init__.py": "the composition seam: LocalCluster comes from the router, on first use",
}

# Who imports one of these sleeps in virtual time.
VIRTUAL_TIME = {
    "fusion_cluster.testing.VirtualTimeLoop",
    "fusion_cluster.testing.run_in_virtual_time",
    "tests.unit.graph.gauges",
    "tests.unit.bodies.terms",
}

# File or folder → why a test there may sleep.
SLEEPERS = {
    "tests/waiting.py": "the one bounded wait for a condition",
    "tests/left_behind.py": "what is about to end does so without a word, in its own time",
    "tests/simulation/": "readers, writers and disruptions at random times; nothing is waited for by it",
    "tests/integration/test_ray_cluster.py": "a caller that tries again when the error says that it may",
    "tests/apps/customers.py": "clients that try again when the error says that they may",
    "tests/integration/test_random_faults.py": "faults at random moments; nothing is waited for by it",
    "tests/integration/test_database_faults.py": "faults while others work; nothing is waited for by it",
    "tests/integration/test_one_way_to_ask_again.py": "faults while others work; nothing is waited for by it",
    "tests/unit/commands/test_commands_out_of_time.py": "bodies that take longer than their callers have time",
    "tests/apps/relays.py": "bodies that take as long as a plan says, in virtual time",
    "tests/property/test_commands_exactly_once.py": "commands and what disturbs them, at random times",
    "tests/property/test_graph_never_stale.py": "its loop is one in virtual time, which jumps",
}

ALL = sources(*PACKAGES, *PROGRAMS, "tests")
OURS = sources(*PACKAGES, *PROGRAMS)


def names_in(source: Source) -> Iterator[str]:
    yield source.path.stem if source.path.stem != "__init__" else source.path.parent.name
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not is_idiom(node):
            yield node.name


def is_idiom(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """`Base` is what SQLAlchemy calls the class that tables derive from."""
    return isinstance(node, ast.ClassDef) and [ast.unparse(base) for base in node.bases] == ["DeclarativeBase"]


def words_of(name: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def test_words_of_a_name_are_told_apart() -> None:
    assert words_of("HTTPLinkManager") == {"http", "link", "manager"}
    assert words_of("create_database_rows") == {"create", "database", "rows"}


def test_there_are_sources_to_look_at() -> None:
    assert len(OURS) > 20


def test_every_module_says_what_it_is_for() -> None:
    silent = [source.name for source in OURS if not ast.get_docstring(source.tree)]
    assert not silent, "modules without a docstring"


def test_no_file_grows_past_400_lines_without_a_reason() -> None:
    lengths = {source.name: source.text.count("\n") for source in ALL}
    unexplained = {name: count for name, count in lengths.items() if count > MAX_LINES and name not in LONG_FILES}
    assert not unexplained, "is there a second idea in each? If not, list it in LONG_FILES with the reason"
    short_again = [name for name in LONG_FILES if lengths.get(name, 0) <= MAX_LINES]
    assert not short_again, "listed in LONG_FILES without need"


def test_names_are_words_of_the_field() -> None:
    vague = [
        f"{source.name}: {name}" for source in OURS for name in names_in(source) if words_of(name) & FORBIDDEN_WORDS
    ]
    vague += [source.name for source in sources("tests") if words_of(source.path.stem) & FORBIDDEN_WORDS]
    assert not vague, f"names with one of {sorted(FORBIDDEN_WORDS)} say nothing"


def test_an_init_holds_the_names_of_its_package_and_nothing_else() -> None:
    def is_allowed(statement: ast.stmt) -> bool:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            return True
        if isinstance(statement, ast.If):
            return "TYPE_CHECKING" in ast.unparse(statement.test)
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            return all(ast.unparse(target) in ("__all__", "__version__") for target in targets)
        return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)

    inits = [source for source in sources(*PACKAGES) if source.path.name == "__init__.py"]
    speaking = [
        f"{source.name}:{statement.lineno}"
        for source in inits
        for statement in source.tree.body
        if not is_allowed(statement) and source.name not in SPEAKING_INITS
    ]
    assert not speaking, "code in an __init__.py"


@pytest.mark.parametrize("module", ["asyncio", "time"])
def test_no_test_sleeps(module: str) -> None:
    def sleeps(node: ast.AST) -> bool:
        if not (isinstance(node, ast.Call) and ast.unparse(node.func) == f"{module}.sleep"):
            return False
        # sleep(0) lets the loop turn, which is no waiting.
        return not (len(node.args) == 1 and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0)

    def is_in_virtual_time(source: Source) -> bool:
        imported = {found.module for found in source.imports()}
        return bool(imported & VIRTUAL_TIME)

    sleepy = [
        f"{source.name}:{node.lineno}"
        for source in sources("tests")
        if not source.name.startswith(tuple(SLEEPERS)) and not is_in_virtual_time(source)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and sleeps(node)
    ]
    assert not sleepy, "wait for an event, or with tests.waiting.until"


def test_a_module_for_any_database_names_what_runs_on_both() -> None:
    modules = [source for source in sources("tests/unit") if "\npytestmark = pytest.mark.any_database\n" in source.text]
    assert modules
    assert not [source.name for source in modules if "\n@pytest.mark.both_databases\n" not in source.text]


def test_every_channel_goes_past_proxies_to_this_machine() -> None:
    opened = [
        (source.name, ast.unparse(node))
        for source in sources("fusion_cluster", "router", "shards", "benchmarks", "loadtest", "examples")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("insecure_channel")
    ]
    assert any(name.startswith("benchmarks/") for name, _ in opened)
    assert [(name, call) for name, call in opened if "proxy_options" not in call] == []
