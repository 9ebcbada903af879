"""One line of a benchmark's result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Goal:
    """What a row should reach.

    Attributes:
        bound: the number to reach.
        is_ceiling: the number is a most, else a least.
        is_absolute: it concerns the value itself, else its ratio to the reference.
    """

    bound: float
    is_ceiling: bool
    is_absolute: bool = False

    def __str__(self) -> str:
        return f"{'≤' if self.is_ceiling else '≥'} {self.bound:g}{'' if self.is_absolute else '×'}"

    @classmethod
    def parse(cls, text: str) -> Goal:
        """Return the goal that `text` is the string of: "≤ 0.8×", "≥ 20"."""
        sign, _, bound = text.partition(" ")
        if sign not in ("≤", "≥"):
            raise ValueError(f"not a goal: {text!r}")
        return cls(float(bound.removesuffix("×")), sign == "≤", not bound.endswith("×"))

    def is_met_by(self, measured: float) -> bool:
        """Tell whether a ratio, or an absolute value, reaches the goal."""
        return measured <= self.bound if self.is_ceiling else measured >= self.bound


def at_most(ratio: float) -> Goal:
    """Goal: the value is at most `ratio` times the reference."""
    return Goal(ratio, is_ceiling=True)


def at_least(ratio: float) -> Goal:
    """Goal: the value is at least `ratio` times the reference."""
    return Goal(ratio, is_ceiling=False)


def value_at_most(value: float) -> Goal:
    """Goal: the value, in its own unit, is at most `value`."""
    return Goal(value, is_ceiling=True, is_absolute=True)


def value_at_least(value: float) -> Goal:
    """Goal: the value, in its own unit, is at least `value`."""
    return Goal(value, is_ceiling=False, is_absolute=True)


@dataclass(frozen=True)
class Row:
    """One measured case and what it was measured against.

    Attributes:
        benchmark: name of the benchmark's module.
        case: what was measured.
        value: the result, in `unit`; None when it could not be measured.
        unit: "ns", "calls/s", ...
        reference: what it is compared with, measured in the same run.
        reference_value: the reference's result, in `unit`; None when it could not be measured (`reference` says why).
        goal: what should be reached, if anything.
    """

    benchmark: str
    case: str
    value: float | None
    unit: str
    reference: str = ""
    reference_value: float | None = None
    goal: Goal | None = None

    @property
    def ratio(self) -> float | None:
        """`value` divided by `reference_value`."""
        if self.value is None or not self.reference_value:
            return None
        return self.value / self.reference_value

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without a goal or a measurement."""
        if self.goal is None:
            return None
        measured = self.value if self.goal.is_absolute else self.ratio
        return None if measured is None else self.goal.is_met_by(measured)

    def to_json(self) -> dict[str, object]:
        """Return the row as it stands in the JSON file: `goal` is the bound alone, `goal_text` says what it bounds."""
        return {
            "benchmark": self.benchmark,
            "case": self.case,
            "value": self.value,
            "unit": self.unit,
            "reference": self.reference,
            "reference_value": self.reference_value,
            "ratio": self.ratio,
            "goal": None if self.goal is None else self.goal.bound,
            "goal_text": None if self.goal is None else str(self.goal),
            "met": self.met,
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Row:
        """Return the row that `to_json` gave these fields of."""
        text = fields["goal_text"]
        return cls(
            fields["benchmark"],
            fields["case"],
            fields["value"],
            fields["unit"],
            fields["reference"],
            fields["reference_value"],
            None if text is None else Goal.parse(text),
        )
