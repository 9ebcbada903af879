"""The parts of the gate, as data: which tests run, on which Python, on which path of the graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

GRAPH = (
    "tests/unit/runtime",
    "tests/unit/catalogue",
    "tests/unit/graph",
    "tests/unit/bodies",
    "tests/unit/failures",
    "tests/unit/state",
    "tests/property/test_graph_never_stale.py",
    "tests/property/test_graph_twins.py",
    "tests/property/test_consolidation_model.py",
    "tests/property/test_why_is_a_path.py",
    "tests/native/test_finalizers.py",
    "tests/native/test_reentrance.py",
)
"""What is said of the graph alone: it needs no database, no network and no Ray."""

WITH_GRPC = ("tests/unit/catalogue/test_generic_services.py",)
"""Of these, what also shows that clients see the same. The environments of other versions have no gRPC."""

FEWER_STEPS = {"GRAPH_STEPS": "1500"}
"""Of the property tests of the graph, which take all of theirs in the first part."""


@dataclass(frozen=True, eq=False)
class Part:
    """One run of pytest.

    Attributes:
        name: what a person types: `make test PARTS=name`.
        title: what it shows.
        tests: files and folders.
        ignored: those among them that are not run.
        version: of Python; "": that of the virtual environment.
        options: of the interpreter.
        environment: variables it is given.
    """

    name: str
    title: str
    tests: tuple[str, ...]
    ignored: tuple[str, ...] = ()
    version: str = ""
    options: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


PARTS = (
    Part("all", "everything, the graph in C", ("tests",)),
    Part("python3.12", "the graph on Python 3.12", GRAPH, WITH_GRPC, version="3.12", environment=FEWER_STEPS),
    Part("python3.13", "the graph on Python 3.13", GRAPH, WITH_GRPC, version="3.13", environment=FEWER_STEPS),
    Part(
        "pure",
        "the graph in pure Python, in development mode",
        (*GRAPH, "tests/native/test_leaks.py"),
        options=("-X", "dev"),
        environment={"FUSION_PURE_PYTHON": "1", **FEWER_STEPS},
    ),
)
