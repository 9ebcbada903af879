"""Limits on the size of values that leave a process."""

from __future__ import annotations

from typing import Final

MAX_PAYLOAD_SIZE: Final = 16 * 1024 * 1024 - 64 * 1024
"""Largest value, or arguments, of one call in bytes."""
