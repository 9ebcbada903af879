"""What came of one part, as pytest's own process wrote it down, and how a person reads it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

FILE_VARIABLE = "GATE_OUTCOME"
"""Names the file that a run of the tests is to write its outcome to; see `tests/outcome.py`."""


@dataclass(frozen=True)
class Outcome:
    """What came of a part.

    Attributes:
        passed: how many tests did.
        failed: names of those that did not.
        skipped: reason → how many.
        seconds: it took.
        exit_code: of pytest; 0: all passed.
        not_run: why it did not run at all; "": it did.
    """

    passed: int = 0
    failed: tuple[str, ...] = ()
    skipped: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    exit_code: int = 0
    not_run: str = ""

    @property
    def is_good(self) -> bool:
        """It ran and all passed, or there is a reason why it could not run."""
        return self.exit_code == 0

    @classmethod
    def read(cls, file: Path, *, seconds: float, exit_code: int) -> Outcome:
        """Read what pytest has written, if it came so far."""
        told = json.loads(file.read_text()) if file.exists() else {}
        return cls(
            passed=told.get("passed", 0),
            failed=tuple(told.get("failed", ())),
            skipped=Counter(told.get("skipped", {})),
            seconds=seconds,
            exit_code=exit_code,
        )

    def __str__(self) -> str:
        """In a few words."""
        if self.not_run:
            return f"not run: {self.not_run}"
        counts = [f"{self.passed:,} passed"]
        if self.failed:
            counts.append(f"{len(self.failed):,} failed")
        if self.skipped:
            counts.append(f"{self.skipped.total():,} skipped")
        ended = "" if self.is_good or self.failed else f", but pytest ended with exit code {self.exit_code}"
        return f"{', '.join(counts)} in {duration(self.seconds)}{ended}"


def duration(seconds: float) -> str:
    """A time for people."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
