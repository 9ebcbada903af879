"""Nothing but the runtime asks for the time, throws dice or starts tasks: a test, or a simulator, owns all three."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.architecture.sources import PACKAGES, Source, sources

# Module → the names of it that are the runtime's alone; None: all of them.
OWNED: dict[str, frozenset[str] | None] = {
    "time": frozenset(
        f"{name}{unit}"
        for name in ("time", "monotonic", "perf_counter", "process_time", "thread_time")
        for unit in ("", "_ns")
    )
    | {"sleep", "clock_gettime", "clock_gettime_ns"},
    "random": None,
    "secrets": None,
    "uuid": frozenset({"uuid1", "uuid4"}),
    "os": frozenset({"urandom", "getrandom"}),
    "asyncio": frozenset({"TaskGroup", "create_task", "ensure_future", "gather", "as_completed"}),
}
STARTS_TASKS = frozenset({"create_task", "ensure_future"})
TELLS_TIME = frozenset({"now", "utcnow", "today"})
RUNTIMES = ("runtime", "SYSTEM")

# File → what is used there all the same, how often, and why.
EXCUSED: dict[str, tuple[dict[str, int], str]] = {
    "fusion_cluster/blocking/loop_thread.py": (
        {"loop.create_task": 1},
        "the first task of a loop is made before that runs",
    ),
    "fusion_cluster/database/sqlite_driver.py": (
        {"time.sleep": 1},
        "gives the interpreter's lock away; in virtual time it is not done",
    ),
    "fusion_cluster/testing/simulation/loop.py": (
        {"asyncio.Task": 1},
        "is an event loop, whose own create_task this is",
    ),
    "fusion_cluster/graph/computing/eager.py": (
        {"asyncio.Task": 2},
        "runs the first step of a computation at once, in the same turn of the loop",
    ),
    "fusion_cluster/graph/computing/strays.py": (
        {"loop.create_task": 2, "kind.create_task": 2},
        "stands for the loop's own create_task, to mark the tasks that bodies make",
    ),
}

# File → why it takes the machine's runtime itself, instead of one that it was given.
OF_THE_MACHINE: dict[str, str] = {
    "fusion_cluster/blocking/portal.py": "threads that block wait in real time",
    "fusion_cluster/cli/events.py": "a command line is outermost",
    "fusion_cluster/cli/execute.py": "a command line is outermost",
    "fusion_cluster/cli/serve.py": "a command line is outermost",
    "fusion_cluster/commands/completion.py": "its task ends before it returns, and takes neither time nor chance",
    "fusion_cluster/commands/context.py": "its task is awaited by the command, and takes neither time nor chance",
    "fusion_cluster/database/database.py": "an event loop in which no host lives",
    "fusion_cluster/graph/computing/surroundings.py": "code outside of all computations belongs to no graph",
    "router/fusion_router/simulation/__main__.py": "a command line is outermost",
    "router/fusion_router/faults.py": "the id of a fault of ours, in a log",
    "shards/fusion_shards/cluster.py": "a driver of Ray makes its host here",
    "shards/fusion_shards/control.py": "calls of Ray take real time",
    "shards/fusion_shards/gateway_actor.py": "an actor of Ray is outermost",
    "shards/fusion_shards/launch.py": "a launch on Ray is outermost",
    "shards/fusion_shards/ray_offload.py": "Ray ends its tasks in real time",
    "shards/fusion_shards/shard_actor.py": "an actor of Ray is outermost",
}


def takes_the_machines(tree: ast.AST) -> bool:
    """Whether a module uses `SYSTEM` other than as a default that its users can replace."""
    defaults: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.arguments):
            for default in (*node.defaults, *node.kw_defaults):
                defaults |= set(ast.walk(default)) if default is not None else set()
        elif isinstance(node, ast.ClassDef):
            for statement in node.body:
                if isinstance(statement, ast.AnnAssign) and statement.value is not None:
                    defaults |= set(ast.walk(statement.value))
    return any(isinstance(node, ast.Name) and node.id == "SYSTEM" and node not in defaults for node in ast.walk(tree))


def uses(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Go through what a module uses of the runtime's own, by whatever name: its line, and what it is."""
    modules: dict[str, str] = {}
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.asname or alias.name: alias.name for alias in node.names if alias.name in OWNED}
        elif isinstance(node, ast.ImportFrom) and node.module in OWNED and not node.level:
            owned = OWNED[node.module]
            for alias in node.names:
                if owned is None or alias.name in owned:
                    names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in names:
            yield node.lineno, names[node.id]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "asyncio.Task":  # elsewhere it is a type
            yield node.lineno, "asyncio.Task"
        elif isinstance(node, ast.Attribute):
            of = ast.unparse(node.value)
            module = modules.get(of)
            owned = OWNED[module] if module is not None else frozenset()
            if module is not None and (owned is None or node.attr in owned):
                yield node.lineno, f"{module}.{node.attr}"
            elif module is None and node.attr in STARTS_TASKS and not of.endswith(RUNTIMES):
                yield node.lineno, f"{of}.{node.attr}"
            elif node.attr in TELLS_TIME and of.split(".")[-1] in ("datetime", "date"):
                yield node.lineno, f"datetime.{node.attr}"


def is_of_the_runtime(source: Source) -> bool:
    return source.name.startswith(("fusion_cluster/runtime/", "fusion_cluster/v1/"))


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import time\ntime.monotonic()", ["time.monotonic"]),
        ("import time as t\ndef f(clock=t.time): ...", ["time.time"]),
        ("from time import perf_counter as now\nnow()", ["time.perf_counter"]),
        ("import random\nrandom.uniform(0, 1)", ["random.uniform"]),
        ("from random import Random\nRandom(3)", ["random.Random"]),
        ("from secrets import token_hex\ntoken_hex()", ["secrets.token_hex"]),
        ("import uuid\nuuid.uuid4()\nuuid.UUID('1')", ["uuid.uuid4"]),
        ("import os\nos.urandom(3)\nos.getpid()", ["os.urandom"]),
        ("import asyncio\nasyncio.create_task(f())", ["asyncio.create_task"]),
        ("import asyncio\nasyncio.gather(f(), g())\nasyncio.sleep(3)", ["asyncio.gather"]),
        ("def f(task: asyncio.Task[None]):\n    asyncio.Task(g())", ["asyncio.Task"]),
        ("asyncio.get_running_loop().create_task(f())", ["asyncio.get_running_loop().create_task"]),
        ("self._loop.create_task(f())", ["self._loop.create_task"]),
        ("import datetime\ndatetime.datetime.now(datetime.UTC)", ["datetime.now"]),
        ("from datetime import datetime\ndatetime.utcnow()\ndatetime.fromtimestamp(3)", ["datetime.utcnow"]),
        ("self._runtime.create_task(f(), name='f')\nSYSTEM.create_task(f(), name='f')", []),
        ("self._clock()\nloop.time()\nloop.call_later(3, f)", []),
    ],
)
def test_the_count_finds_what_it_looks_for(code: str, found: list[str]) -> None:
    assert [what for _, what in uses(ast.parse(code))] == found


def test_nothing_but_the_runtime_asks_for_time_chance_or_tasks() -> None:
    found = {
        source.name: [f"{line} {what}" for line, what in uses(source.tree)]
        for source in sources(*PACKAGES)
        if not is_of_the_runtime(source)
    }
    unexcused = {name: lines for name, lines in found.items() if lines and name not in EXCUSED}
    assert not unexcused, "ask the runtime that the object was given (fusion_cluster/runtime)"


def test_what_is_excused_is_there_as_often_as_it_is_excused() -> None:
    by_name = {source.name: source for source in sources(*PACKAGES)}
    for name, (counts, reason) in EXCUSED.items():
        found = [what for _, what in uses(by_name[name].tree)]
        assert {what: found.count(what) for what in set(found)} == counts, f"{name}: {reason}"


def test_a_runtime_is_given_except_at_the_outermost() -> None:
    assert takes_the_machines(ast.parse("def f():\n    SYSTEM.create_task(g())"))
    assert not takes_the_machines(ast.parse("def f(a=SYSTEM, *, b=SYSTEM.entropy): ...\nclass A:\n    c: R = SYSTEM"))
    found = {source.name for source in sources(*PACKAGES) if takes_the_machines(source.tree)}
    assert {name for name in found if not name.startswith("fusion_cluster/runtime/")} == set(OF_THE_MACHINE)
