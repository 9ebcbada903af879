"""Decides whether a host is strict: by the caller's choice, else by the environment, else by the host's default."""

from __future__ import annotations

import os

from fusion_cluster.errors import UsageError


def choose_strict(said: bool | None, *, default: bool | None = None) -> bool:
    """Return whether a host that is made now is strict.

    Args:
        said: the caller's choice; None: the caller leaves it open.
        default: holds if neither the caller nor `FUSION_STRICT` decides; None: strict if this process runs under
            pytest, or was started by a process that does (`PYTEST_VERSION`, `PYTEST_CURRENT_TEST`).

    Raises:
        UsageError: `said` is not a bool, or `FUSION_STRICT` is neither 0 nor 1.
    """
    if said is not None:
        if not isinstance(said, bool):
            raise UsageError(f"strict must be True, False or None, not {said!r}", field="strict")
        return said
    chosen = os.environ.get("FUSION_STRICT", "")
    if chosen not in ("", "0", "1"):
        raise UsageError(f"FUSION_STRICT must be 0 or 1, not {chosen!r}", field="FUSION_STRICT")
    if chosen:
        return chosen == "1"
    if default is not None:
        return default
    return "PYTEST_VERSION" in os.environ or "PYTEST_CURRENT_TEST" in os.environ
