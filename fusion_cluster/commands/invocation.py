"""Invocations: one call of a method on its way, through hosts, links and gateways to the body.

Invariant: an invocation does not change. A call made on behalf of another call has a deadline that is not later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from fusion_cluster.runtime.baggage import NO_BAGGAGE
from fusion_cluster.runtime.deadline import NO_DEADLINE

InvocationKind = Literal["compute", "command", "event"]


class Caller(msgspec.Struct, frozen=True):
    """A command that waits for another one.

    Attributes:
        command_id: of the run that it is a part of.
        text: the call, as people read it.
    """

    command_id: str
    text: str


class Invocation(msgspec.Struct, frozen=True, eq=False):
    """One call of a method.

    Attributes:
        method: its full name: "Carts.total".
        arguments: canonical, as many as it has parameters; as given, if the client knows only the method's name.
        kind: "compute", a read of a compute method; "command"; "event", an event handler's run.
        command_id: for a command, its id, the same for each retry; "": its caller has made none, so there will be no
            retry.
        is_retry: the command id was sent before, so the command may have run.
        deadline_s: until when its caller waits, on the monotonic clock of this process's runtime; infinite: the caller
            sets no limit. Between processes the remaining time travels.
        baggage: data that travels with it for others (see `runtime.baggage`).
        callers: of a command, the commands that wait for it, each for the one after it (see `nesting`).
    """

    method: str
    arguments: tuple[Any, ...] = ()
    kind: InvocationKind = "compute"
    command_id: str = ""
    is_retry: bool = False
    deadline_s: float = NO_DEADLINE
    baggage: Mapping[str, str] = NO_BAGGAGE
    callers: tuple[Caller, ...] = ()

    def replace(self, **changes: Any) -> Invocation:
        """Return the same call with other attributes."""
        return msgspec.structs.replace(self, **changes)

    def __str__(self) -> str:
        return f"{self.kind} {self.method}"
