"""Names the members that a coordinator starts."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

Role: TypeAlias = Literal["shard", "gateway"]


class MemberId(NamedTuple):
    """One shard or gateway of an app, over all its incarnations.

    Attributes:
        role: "shard" or "gateway".
        number: its number among its kind, from 0 on.
    """

    role: Role
    number: int

    def __str__(self) -> str:
        return f"{self.role} {self.number}"
