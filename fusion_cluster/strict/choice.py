"""Whether a host is strict: what its maker says, else the environment, else what its kind of host is by default."""

from __future__ import annotations

import os

from fusion_cluster.errors import UsageError


def choose_strict(said: bool | None, *, default: bool | None = None) -> bool:
    """Return whether a host that is made now is strict.

    Args:
        said: what the caller says; None: nothing.
        default: what holds where neither the caller nor `FUSION_STRICT` says anything; None: whether this process runs
            under pytest, or was started by one that does (`PYTEST_VERSION`, `PYTEST_CURRENT_TEST`).

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
