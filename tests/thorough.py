"""How long the long tests run: `make test THOROUGH=1` lets them take minutes, as before a release.

What they show is the same either way: the usual number is what a fault of their kind cannot hide behind.
"""

from __future__ import annotations

import os
from typing import TypeVar

T = TypeVar("T")

IS_THOROUGH = os.environ.get("THOROUGH", "0") not in ("", "0")


def times(usual: T, thorough: T) -> T:
    """Return how often, or with how much, something is done: `thorough` if that is wanted, else `usual`."""
    return thorough if IS_THOROUGH else usual
