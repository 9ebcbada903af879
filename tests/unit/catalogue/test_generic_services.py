"""Generic services: type variables are what the bases of a service say, in every setting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Generic, ParamSpec, TypeVar, assert_type

import pytest

from fusion_cluster import App, ComputeService, command, compute_method
from fusion_cluster.client import connect
from fusion_cluster.errors import InvalidArgument, UsageError
from fusion_cluster.testing import LocalCluster
from tests.apps.repositories import Greeter, Page, Price, Prices, Repo, User, Users, app
from tests.clients import fronted

A = TypeVar("A")
B = TypeVar("B", bound=User)
C = TypeVar("C", int, str)
P = ParamSpec("P")

ANN = User(1, "Ann")
CHEAP = Price(Decimal("1.20"))


async def use(users: Users, prices: Prices, greeter: Greeter) -> None:
    """Use them all; what is read is of the classes that the bases name."""
    assert await greeter.greeting(1) == "who?"
    assert await users.put(1, ANN) == ANN
    user = assert_type(await users.get(1), User | None)
    assert user == ANN
    assert type(user) is User
    assert assert_type(await users.page((1, 2)), Page[User]) == Page((ANN,))
    by_key = assert_type(await users.by_key(""), dict[int, list[User]])
    assert by_key == {1: [ANN]}
    assert assert_type(await users.first(), User | None) is None
    assert await greeter.greeting(1) == "hello Ann"
    assert await prices.put("pen", CHEAP) == CHEAP
    price = assert_type(await prices.get("pen"), Price | None)
    assert price == CHEAP
    assert type(CHEAP.amount) is type(price and price.amount)
    await users.put(1, User(1, "Anna"))
    assert await greeter.greeting(1) == "hello Anna"


@pytest.mark.parametrize("strict", [False, True])
async def test_generic_services_in_one_process(strict: bool) -> None:
    async with app.local(strict=strict) as host:
        await use(host.service(Users), host.service(Prices), host.service(Greeter))


@pytest.mark.parametrize("strict", [False, True])
async def test_generic_services_in_a_cluster(strict: bool) -> None:
    async with LocalCluster(app, shards=3, strict=strict) as cluster:
        assert cluster.owner("Users.put", 1, ANN) is cluster.owner("Users.get", 1)
        users = cluster.service(Users)
        assert await users.put(1, ANN) == ANN
        assert await users.get(1) == ANN
        assert await cluster.service(Greeter).greeting(1) == "hello Ann"
        await users.put(1, User(1, "Anna"))
        assert await users.get(1) == User(1, "Anna")
        assert await cluster.service(Greeter).greeting(1) == "hello Anna"


async def test_generic_services_over_grpc() -> None:
    async with fronted(app, shards=1) as front, connect(front.address) as client:
        await use(client.service(Users), client.service(Prices), client.service(Greeter))
        assert await client.call("Users.get", 1) == {"id": 1, "name": "Anna"}
        assert await client.execute("Prices.put", "ink", {"amount": "2.50"}) == {"amount": "2.50"}
        assert await client.service(Prices).get("ink") == Price(Decimal("2.50"))
        with pytest.raises(InvalidArgument, match=r"key"):
            await client.call("Users.get", "one")


def test_what_a_catalogue_knows_of_a_generic_method() -> None:
    methods = app.methods
    assert methods["Users.get"].signature.result_type == User | None
    assert methods["Users.get"].signature.parameters[0].type is int
    assert methods["Users.page"].signature.result_type == Page[User]
    assert methods["Users.by_key"].signature.result_type == dict[int, list[User]]
    assert methods["Prices.put"].signature.parameters[0].type is str
    assert methods["Users.first"].signature.result_type == User | None


# -- what is refused ---------------------------------------------------------------------------------------------------
class Shelf(ComputeService, Generic[A]):
    @compute_method
    async def top(self) -> list[A]:
        return []


class Bounded(ComputeService, Generic[B]):
    @compute_method
    async def get(self) -> B | None:
        return None


class Constrained(ComputeService, Generic[C]):
    @compute_method
    async def get(self) -> C | None:
        return None


class Called(ComputeService, Generic[P]):
    @compute_method
    async def get(self, call: Callable[P, int]) -> int:
        return 1


class Own(ComputeService):
    @command
    async def put(self, item: A) -> A:
        return item


def test_a_service_that_leaves_a_variable_open_is_refused() -> None:
    class Shelves(Shelf[A]):
        pass

    class Bare(Shelf):  # type: ignore[type-arg]
        pass

    for service, advice in (
        (Shelf, r"Shelf.top: its result has the type variable A, .* `class Users\(Shelf\[User\]\)`"),
        (Shelves, r"Shelves.top: its result has the type variable A"),
        (Bare, r"Bare does not say what A is: .* `class Bare\(Shelf\[User\]\)`"),
        (Own, r"Own.put: 'item' has the type variable A, .* write the type itself"),
        (Bounded, r"Bounded.get: its result has the type variable B"),
    ):
        with pytest.raises(UsageError, match=advice):
            App("open", [service])
    with pytest.raises(UsageError, match=r"Called.get: 'call' has the type P, a ParamSpec"):
        App("open", [Called])
    with pytest.raises(UsageError, match=r"Shelf\[int\] is not a ComputeService class: write"):
        App("open", [Shelf[int]])


def test_bounds_and_constraints_are_kept() -> None:
    class Wrong(Bounded[int]):  # type: ignore[type-var]
        pass

    class Bytes(Constrained[bytes]):  # type: ignore[type-var]
        pass

    with pytest.raises(UsageError, match="B of Bounded must be derived from User, not int"):
        App("wrong", [Wrong])
    with pytest.raises(UsageError, match="C of Constrained must be int or str, not bytes"):
        App("wrong", [Bytes])


def test_one_base_in_two_ways_is_refused() -> None:
    class Ints(Shelf[int]):
        pass

    class Both(Ints, Shelf[str]):  # pyright: ignore[reportGeneralTypeIssues]
        pass

    with pytest.raises(UsageError, match="A of Shelf is int by one base and str by another"):
        App("both", [Both])


async def test_the_class_in_a_base_may_be_named_in_quotes() -> None:
    class Late(Shelf["LateItem"]):
        pass

    (method,) = App("late", [Late]).methods.values()
    assert method.signature.result_type == list[LateItem]

    class Nowhere(Shelf["Missing"]):  # type: ignore[name-defined]
        pass

    with pytest.raises(UsageError, match="'Missing' in quotes"):
        App("late", [Nowhere])


@dataclass(frozen=True)
class LateItem:
    name: str


async def test_an_attribute_finds_the_one_service_that_fits() -> None:
    class Staff(Repo[User, int]):
        pass

    class Reader(ComputeService):
        users: Repo[User, int]

    class Base(ComputeService, Generic[A]):
        rows: Repo[A]

    class PriceReader(Base[Price]):
        pass

    async with App("one", [Reader, Staff, Prices, PriceReader]).local() as host:
        assert host.service(Reader).users is host.service(Staff)
        assert host.service(PriceReader).rows is host.service(Prices)
    for services, says in (
        ([Reader], r"Reader.users needs Repo\[User, int\], which is not the base of a service"),
        ([Reader, Staff, Users], "is the base of Staff and Users, so name one of them"),
    ):
        with pytest.raises(UsageError, match=says):
            async with App("none", services).local():
                pass


async def test_a_client_that_cannot_tell_which_service_is_meant_says_so_when_it_is_used() -> None:
    class Left(Shelf[bytes]):
        pass

    class Right(Shelf[bytes]):
        pass

    class Asking(ComputeService):
        shelf: Shelf[bytes]

        @compute_method
        async def one(self) -> int:
            return 1

    async with fronted(App("asking", [Asking, Left])) as front, connect(front.address) as client:
        asking: Any = client.service(Asking)
        assert await asking.one() == 1
        with pytest.raises(UsageError, match=r"Asking.shelf asks for Shelf\[bytes\], and Left, Right are"):
            await asking.shelf.top()
