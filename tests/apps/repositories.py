"""Generic services: one base, services for several kinds of rows, and one that uses them by their base."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Generic

from typing_extensions import TypeVar

from fusion_cluster import App, ComputeService, command, compute_method


@dataclass(frozen=True)
class User:
    id: int
    name: str


@dataclass(frozen=True)
class Price:
    amount: Decimal


T = TypeVar("T")
K = TypeVar("K", default=str)
V = TypeVar("V")


@dataclass(frozen=True)
class Page(Generic[V]):
    items: tuple[V, ...]
    next: int | None = None


class Repo(ComputeService, Generic[T, K]):
    """Rows of one kind by key."""

    rows: dict[K, T]

    def __init__(self) -> None:
        self.rows = {}

    @compute_method
    async def get(self, key: K) -> T | None:
        return self.rows.get(key)

    @compute_method
    async def page(self, keys: tuple[K, ...]) -> Page[T]:
        return Page(tuple([row for key in keys if (row := await self.get(key)) is not None]))

    @compute_method
    async def by_key(self, prefix: str) -> dict[K, list[T]]:
        return {key: [row] for key, row in self.rows.items() if str(key).startswith(prefix)}

    @command
    async def put(self, key: K, row: T) -> T:
        self.rows[key] = row
        self.get.invalidate(key)
        self.by_key.invalidate("")
        return row


class Numbered(Repo[V, int], Generic[V]):
    """Rows with numbers as keys."""

    @compute_method
    async def first(self) -> V | None:
        return await self.get(0)


class Users(Numbered[User]):
    shard_group = "users"


class Prices(Repo[Price]):
    """Prices by name: the key's type is the default."""


class Greeter(ComputeService):
    users: Repo[User, int]
    prices: Prices

    @compute_method
    async def greeting(self, key: int) -> str:
        user = await self.users.get(key)
        return "who?" if user is None else f"hello {user.name}"


app = App("repositories", [Users, Prices, Greeter])
