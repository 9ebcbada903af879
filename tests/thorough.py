"""How long the long tests run: `make test THOROUGH=1` lets them take minutes, as before a release.

What they show is the same either way: the usual number is what a fault of their kind cannot hide behind.
"""

from __future__ import annotations

import os

IS_THOROUGH = os.environ.get("THOROUGH", "0") not in ("", "0")


def times(usual: int, thorough: int) -> int:
    """Return how often something is done: `thorough` times if that is wanted, else `usual` times."""
    return thorough if IS_THOROUGH else usual
