"""The states of a node, as numbers: `COMPUTING` and `CONSISTENT` are *live*, what is greater is not."""

from __future__ import annotations

from typing import Final

COMPUTING: Final = 0
CONSISTENT: Final = 1
OUTDATED: Final = 2
"""Still computing, but what it reads has changed: not in the registry, and INVALIDATED when it completes."""
INVALIDATED: Final = 3
