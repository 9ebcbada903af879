"""What each computed of the sheet may hold now, computed anew each time: the naive model of the graph."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Final

from fusion_cluster.errors import CircularDependencyError, ShardUnavailable

Value = frozenset[tuple[str, int]]
"""Which atoms were read, and at which version each."""

Outcome = Value | type[Exception]


class Stubborn(Exception):
    """An error that says itself when it may be gone."""

    is_transient = True
    retry_after_s = 7.0


CELLS: Final = ("x0", "x1", "x2", "x3")
LEAVES: Final = 130
WIDTHS: Final = (17, 18, 20, 40, 104, LEAVES)
WIDES: Final = tuple(f"wide:{width}:{variant}" for width in WIDTHS for variant in range(4))
TAPS: Final = tuple(f"tap:{leaf}" for leaf in range(1, 21))
CHAINS: Final = tuple(f"chain:{depth}" for depth in (3, 15, 40))
LOOSE: Final = {
    "loose:int": 1,
    "loose:float": 1.0,
    "loose:bool": True,
    "loose:text": "1",
    "loose:nested": (1, (True, 0)),
    "loose:nested floats": (1.0, (True, 0.0)),
}
AWKWARD: Final = tuple(f"awkward:{name}" for name in "abcd")
PAIRS: Final = ("pair:a", "pair:b")
ATOMS: Final = (*CELLS, "leaf:0", "leaf:1", "leaf:16", "leaf:103", *AWKWARD, *LOOSE, *PAIRS)

PLAIN: Final = (
    "sum",
    "choice",
    "failing",
    "lost",
    "rescue",
    "knot",
    "tangle",
    "hidden",
    "tasks",
    "level",
    "top",
    "keys",
)
TIMED: Final = (
    "slow",
    "above",
    "flaky",
    "stubborn",
    "shelter",
    "tidal",
    "above_tidal",
    "kept",
    "cut",
    "above_cut",
    "quitter",
)
DERIVED: Final = (*PLAIN, *TIMED)
NAMES: Final = (*ATOMS, *DERIVED)

LAG_S: Final = 5.0
"""The `invalidation_delay` of "slow"."""
TIDE_S: Final = 3.0
"""The `auto_invalidation_delay` of "tidal"."""
CUT_S: Final = 2.0
"""The `consolidation_delay` of "cut"."""
TRANSIENT_S: Final = 1.0

LAGGING: Final = frozenset({"slow", "above"})
CATCHING: Final = frozenset({"rescue", "shelter"})
CAUGHT: Final = (ValueError, ShardUnavailable, ConnectionError, Stubborn)
UNTRACKED: Final = ("tide", "weather")
"""What bodies read that no computed stands for: odd weather is bad."""


class Model:
    """The data, their past as far as delays reach, and what is made of them.

    Args:
        now_s: the clock of the delays.
    """

    def __init__(self, now_s: Callable[[], float]) -> None:
        self.versions: dict[str, int] = defaultdict(int)
        self._now_s = now_s
        self._past: list[tuple[float, dict[str, int]]] = [(0.0, {})]

    def change(self, atom: str) -> int:
        """Give an atom its next version, and return that."""
        self.versions[atom] += 1
        self._past.append((self._now_s(), {name: self.versions[name] for name in (*CELLS, "leaf:0", *UNTRACKED)}))
        return self.versions[atom]

    def read(self, atom: str) -> Value:
        return frozenset({(atom, self.versions[atom])})

    def lately(self, atom: str, within_s: float) -> set[int]:
        """Return the versions that an atom has had within the last seconds."""
        since_s = self._now_s() - within_s - 1e-6
        found = {self.versions[atom]}
        for began_s, versions in reversed(self._past):
            found.add(versions.get(atom, 0))
            if began_s < since_s:
                break
        return found

    @property
    def is_weather_bad(self) -> bool:
        return self.versions["weather"] % 2 == 1

    def was_weather_bad(self, within_s: float) -> bool:
        return any(version % 2 for version in self.lately("weather", within_s))

    # -- what a computed may hold --------------------------------------------------------------------------------------
    def outcomes(self, name: str, path: tuple[str, ...] = ()) -> set[Outcome]:
        """Return all that a consistent computed of this name may hold: one outcome, or several where delays allow."""
        if name in path:
            return {CircularDependencyError}
        kind = name.partition(":")[0]
        if kind in ("wide", "tap", "chain"):
            return {frozenset().union(*(self.read(step) for step in leaves(name)))}
        if name == "slow":
            past = itertools.product(*([(atom, v) for v in self.lately(atom, LAG_S)] for atom in ("x0", "x1")))
            return self._or_error({frozenset(pair) for pair in past}, ConnectionError, TRANSIENT_S)
        if name == "flaky":
            return self._or_error({self.read("x3")}, ConnectionError, TRANSIENT_S)
        if name == "stubborn":
            return self._or_error({self.read("x3")}, Stubborn, Stubborn.retry_after_s)
        if name == "tidal":
            return {self.read("x2") | {("tide", version)} for version in self.lately("tide", TIDE_S)}
        if name == "cut":
            return {coarse(version) for version in self.lately("leaf:0", CUT_S)}
        if name == "cut:source":
            return {coarse(self.versions["leaf:0"])}
        if name not in DERIVED:
            return {self.read(name)}
        return self._of_steps(name, path)

    def _or_error(self, values: Iterable[Value], error: type[Exception], delay_s: float) -> set[Outcome]:
        return {*values, *({error} if self.was_weather_bad(delay_s) else ())}

    def _of_steps(self, name: str, path: tuple[str, ...]) -> set[Outcome]:
        used: set[Value] = {frozenset()}
        ended: set[Outcome] = set()
        for step in steps(name, self.versions):
            parts = {step} if isinstance(step, type) else self.outcomes(step, (*path, name))
            values = [part for part in parts if not isinstance(part, type)]
            errors = [part for part in parts if isinstance(part, type)]
            is_caught = [error for error in errors if name in CATCHING and issubclass(error, CAUGHT)]
            ended.update(error for error in errors if error not in is_caught)
            used = {
                old | new for old in used for new in [*values, *([frozenset[tuple[str, int]]()] if is_caught else [])]
            }
        return {*used, *ended}


def coarse(version: int) -> Value:
    """Return what "cut" makes of a version of its leaf."""
    return frozenset({("coarse", version // 3)})


def leaves(name: str) -> list[str]:
    """Return the leaves that a wide, a tap or a chain reads, in order."""
    kind, number, *_ = name.split(":")
    if kind == "wide":
        return [f"leaf:{leaf}" for leaf in range(int(number))]
    return ["leaf:0", f"leaf:{number}"] if kind == "tap" else ["leaf:0"]


def steps(name: str, versions: dict[str, int]) -> list[str | type[Exception]]:
    """What a derived value reads, or raises, in order; later steps may hang on the versions of earlier ones."""
    match name:
        case "sum":
            return ["x0", "x1"]
        case "choice":
            return ["x0", "x1" if versions["x0"] % 2 else "x2"]
        case "failing":
            return ["x3", *([ValueError] if versions["x3"] % 2 else [])]
        case "lost":
            return ["x3", *([ShardUnavailable] if versions["x3"] % 3 == 1 else [])]
        case "rescue":
            return ["failing", "lost", "x2"]
        case "knot":
            return ["x0", *(["tangle"] if versions["x0"] % 3 == 2 else [])]
        case "tangle":
            return ["x1", *(["knot"] if versions["x1"] % 3 == 2 else [])]
        case "hidden" | "quitter":
            return ["x1"]
        case "tasks":
            return ["x0", "sum"]
        case "level":
            return ["state", "x0"]
        case "top":
            return ["sum", "choice", "level", "tasks", "rescue"]
        case "keys":
            return [*AWKWARD, *LOOSE, *PAIRS]
        case "above":
            return ["slow", "x2"]
        case "shelter":
            return ["flaky", "stubborn", "x0"]
        case "above_tidal":
            return ["tidal", "x0"]
        case "above_cut":
            return ["cut", "leaf:1"]
        case "kept":
            return ["x0", "leaf:1"]
        case _:
            raise AssertionError(f"{name} has no steps")
