"""Which of the two implementations of the hot path is measured: the one in C, or its twin in pure Python."""

from __future__ import annotations

from typing import Final

from fusion_cluster.graph.core import hot_path

NATIVE: Final = "C"
PURE: Final = "pure Python"

IS_NATIVE: Final[bool] = hot_path.IS_NATIVE
"""Whether this process has the path in C."""

PATH: Final = NATIVE if IS_NATIVE else PURE
"""The path of this process."""


def on_path(case: str, path: str = PATH) -> str:
    """Return the case with the path that it was measured on: "a hit" as "a hit (C)"."""
    return f"{case} ({path})"


def split_path(case: str) -> tuple[str, str]:
    """Return a case without its path, and the path; "" where it names none."""
    for path in (NATIVE, PURE):
        before, found, after = case.partition(f" ({path})")
        if found:
            return before + after, path
    return case, ""
