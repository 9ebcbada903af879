"""Invocations that tests make by hand, for links without a host."""

from __future__ import annotations

import time

from fusion_cluster.commands import Invocation


def a_read(method: str, *, timeout_s: float) -> Invocation:
    """Return a read that may take so long."""
    return Invocation(method, deadline_s=time.monotonic() + timeout_s)


def a_command(method: str, *, command_id: str, timeout_s: float) -> Invocation:
    """Return a command that may take so long."""
    return Invocation(method, (), "command", command_id, deadline_s=time.monotonic() + timeout_s)
