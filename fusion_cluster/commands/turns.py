"""Turns: commands of one key run one after the other, commands of different keys at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from typing import Final

from fusion_cluster.errors import Overloaded


class _Turn:
    __slots__ = ("lock", "users")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


MAX_USERS: Final = 10_000
"""How many commands may run or wait in one host."""


class Turns:
    """The commands of one host that run or wait, by key; first come, first served.

    Args:
        max_users: how many there may be.
    """

    def __init__(self, max_users: int = MAX_USERS) -> None:
        self._max_users = max_users
        self._users = 0
        # Key -> the turn of those who run or wait; removed when the last one leaves.
        self._turns: dict[Hashable, _Turn] = {}

    def __len__(self) -> int:
        return len(self._turns)

    @asynccontextmanager
    async def of(self, key: Hashable) -> AsyncIterator[None]:
        """Wait until no other holds the key, and hold it inside the block.

        Raises:
            Overloaded: too many run or wait already.
        """
        if self._users >= self._max_users:
            raise Overloaded(f"{self._users:,} commands run or wait in this process already", retry_after_s=0.5)
        self._users += 1
        turn = self._turns.get(key)
        if turn is None:
            turn = self._turns[key] = _Turn()
        turn.users += 1
        try:
            async with turn.lock:
                yield
        finally:
            self._users -= 1
            turn.users -= 1
            if not turn.users:
                del self._turns[key]
