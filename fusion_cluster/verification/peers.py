"""The other members of a cluster, as verification calls them: over Ray in production, directly in one process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from fusion_cluster.errors import ShardUnavailable
from fusion_cluster.verification.looks import Answer, CachedKey, Look


class Peers(Protocol):
    """Calls the other members."""

    def members(self) -> Sequence[str]:
        """Return the names of the other members."""
        ...

    async def look(self, member: str, keys: Sequence[CachedKey]) -> Sequence[Look]:
        """Return what a member has cached of some keys.

        Raises:
            ShardUnavailable: it does not answer.
        """
        ...

    async def answer(self, owner: int, looks: Sequence[Look]) -> Sequence[Answer]:
        """Let a shard that owns some keys compare what is cached with what it computes, in the same order.

        Raises:
            ShardUnavailable: it does not answer.
        """
        ...


class _Alone:
    """The other members of a host that is the only one: none."""

    def members(self) -> Sequence[str]:
        """Return no names."""
        return ()

    async def look(self, member: str, keys: Sequence[CachedKey]) -> Sequence[Look]:
        """Fail."""
        raise ShardUnavailable(f"there is no member {member}")

    async def answer(self, owner: int, looks: Sequence[Look]) -> Sequence[Answer]:
        """Fail."""
        raise ShardUnavailable(f"there is no shard {owner}")


ALONE: Final[Peers] = _Alone()
"""For a host that is the only one."""
