"""Generic services: type variables are what the bases of a service say, in every setting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Generic, NamedTuple, ParamSpec, TypeVar, assert_type

import msgspec
import pydantic
import pytest

from fusion_cluster import App, ComputeService, Database, command, compute_method, event_handler
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


# -- hints of all kinds ------------------------------------------------------------------------------------------------
class Model(pydantic.BaseModel, Generic[A]):
    item: A
    more: tuple[A, ...] = ()


class Row(msgspec.Struct, Generic[A], frozen=True):
    item: A


class Pair(NamedTuple, Generic[A]):
    one: A
    other: A


class Kinds(ComputeService, Generic[A]):
    @compute_method
    async def model(self, item: A) -> Model[A]:
        return Model[Any](item=item, more=(item,))

    @compute_method
    async def row(self, item: A) -> Row[A] | None:
        return Row(item)

    @compute_method
    async def pair(self, items: tuple[A, ...]) -> Pair[A]:
        return Pair(items[0], items[-1])

    @compute_method
    async def pages(self, item: Annotated[A, "kept"]) -> Mapping[str, Page[Page[A]]]:
        return {"a": Page((Page((item,)),))}


class UserKinds(Kinds[User]):
    pass


async def test_variables_are_resolved_in_records_of_all_kinds() -> None:
    methods = App("kinds", [UserKinds]).methods
    assert methods["UserKinds.model"].signature.result_type is Model[User]
    assert methods["UserKinds.row"].signature.result_type == Row[User] | None
    assert methods["UserKinds.pair"].signature.result_type == Pair[User]
    assert methods["UserKinds.pages"].signature.parameters[0].type == Annotated[User, "kept"]
    async with fronted(App("kinds", [UserKinds])) as front, connect(front.address) as client:
        kinds = client.service(UserKinds)
        assert await kinds.row(ANN) == Row(ANN)
        assert await kinds.pair((ANN,)) == Pair(ANN, ANN)
        assert await kinds.pages(ANN) == {"a": Page((Page((ANN,)),))}
        model = await kinds.model(ANN)
        assert (model.item, model.more) == (ANN, (ANN,))


def test_a_base_may_be_given_a_generic_type() -> None:
    class Lists(Shelf[list[dict[str, Page[User]]]]):
        pass

    (method,) = App("lists", [Lists]).methods.values()
    assert method.signature.result_type == list[list[dict[str, Page[User]]]]


def test_a_method_that_is_overridden_has_its_own_hints() -> None:
    class Counted(Shelf[User]):
        @compute_method
        async def top(self) -> list[User]:
            return [*await super().top(), ANN]

        @compute_method
        async def count(self) -> int:
            return len(await self.top())

    results = {name: method.signature.result_type for name, method in App("counted", [Counted]).methods.items()}
    assert results == {"Counted.top": list[User], "Counted.count": int}


class Handling(ComputeService, Generic[A]):
    @event_handler
    async def on_event(self, event: A) -> None: ...


class OfUsers(Handling[User]):
    pass


def test_events_are_of_the_class_that_the_base_says() -> None:
    app = App("handling", [OfUsers], database=Database("sqlite:///never-opened.db"))
    (handler,) = app.methods.of(OfUsers)
    assert (handler.kind, handler.event_classes, app.event_classes) == ("event", (User,), {"User": User})
    with pytest.raises(UsageError, match=r"Handling.on_event: 'event' has the type variable A"):
        App("handling", [Handling], database=Database("sqlite:///never-opened.db"))


async def test_a_generic_body_runs_in_a_thread() -> None:
    class Threaded(ComputeService, Generic[A]):
        @compute_method(offload="thread")
        def twice(self, item: A) -> tuple[A, A]:
            return item, item

    class Words(Threaded[Decimal]):
        pass

    async with App("words", [Words]).local(strict=True) as host:
        assert await host.service(Words).twice(Decimal("1.0")) == (Decimal(1), Decimal(1))
