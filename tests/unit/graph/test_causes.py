"""What a cause holds: the place in the user's code, short texts, and nothing that would be kept alive by it."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from types import CodeType, FrameType, ModuleType
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel, SecretStr

from fusion_cluster.bodies.attaching import attach
from fusion_cluster.graph import Graph, GraphHosting, Place
from fusion_cluster.graph.core.key import Key
from fusion_cluster.graph.why.abridged import MAX_CHARS, abridged, abridged_arguments
from fusion_cluster.graph.why.cause import Cause, CommandRun, call_site, from_here
from fusion_cluster.graph.why.explanation import key_text
from tests.unit.graph.market import Market, here


def library(name: str, source: str) -> dict[str, Any]:
    """Return the names of a module that looks like one of the library's."""
    module = ModuleType(name)
    module.__dict__["call_site"] = call_site
    exec(compile(source, f"/somewhere/{name.replace('.', '/')}.py", "exec"), module.__dict__)
    return module.__dict__


OURS = library(
    "fusion_cluster.made_up",
    """
def notice(): return call_site("kind", "what")
def deeper(): return notice()
def deepest(): return deeper()
async def within(): return deepest()
def call(function): return function()
""",
)


# -- where in the user's code ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["notice", "deeper", "deepest"])
def test_the_place_is_in_the_nearest_frame_of_the_user(name: str) -> None:
    def user() -> Cause:
        cause: Cause = OURS[name]()
        return cause

    cause = user()
    assert cause.place == Place(__file__, user.__code__.co_firstlineno + 1, user.__qualname__)
    assert (cause.kind, cause.what) == ("kind", "what")
    assert str(cause) == f"what at {cause.place}"


def test_code_of_the_user_that_the_library_calls_is_the_users() -> None:
    line = here() + 1
    cause: Cause = OURS["call"](lambda: OURS["deeper"]())
    assert cause.place is not None
    assert cause.place.line == line


async def test_the_place_is_the_line_of_a_coroutine_that_awaits_the_library() -> None:
    line = here() + 1
    cause: Cause = await OURS["within"]()
    assert cause.place is not None
    assert cause.place.line == line


async def test_of_several_lines_of_a_function_it_is_the_one_that_runs() -> None:
    causes: list[Cause] = []
    for _ in range(2):
        causes.append(OURS["notice"]())
        causes.append(
            OURS["notice"](),
        )
    lines = [cause.place.line for cause in causes if cause.place is not None]
    assert lines[0] == lines[2] == lines[1] - 2 == lines[3] - 2


async def test_what_the_event_loop_calls_by_itself_has_no_place_and_not_that_of_whoever_runs_the_loop() -> None:
    called: asyncio.Future[Cause] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(OURS["call"], lambda: called.set_result(OURS["notice"]()))
    assert (await called).place is not None, "a callback of the user is a place"
    alone: asyncio.Future[Cause] = asyncio.get_running_loop().create_future()
    give = library("fusion_cluster.made_up_too", "def give(future): future.set_result(call_site())")["give"]
    asyncio.get_running_loop().call_soon(give, alone)
    cause = await alone
    assert cause.place is None
    assert str(cause) == "a call of invalidate()"


async def test_what_another_thread_has_asked_for_has_the_place_where_it_asked() -> None:
    line = here() + 1
    asked: Callable[[], Cause] = from_here(OURS["deeper"])
    done: asyncio.Future[Cause] = asyncio.get_running_loop().create_future()
    give = library("fusion_cluster.made_up_too", "def give(future, asked): future.set_result(asked())")["give"]
    asyncio.get_running_loop().call_soon(give, done, asked)
    cause = await done
    assert cause.place == Place(__file__, line, "test_what_another_thread_has_asked_for_has_the_place_where_it_asked")
    assert (cause.kind, cause.what) == ("kind", "what")


def test_code_that_is_in_no_file_is_told_apart_by_its_module() -> None:
    names: dict[str, Any] = {"__name__": "somebodys_notebook", "notice": OURS["notice"]}
    ours: dict[str, Any] = {"__name__": "fusion_cluster.generated", "notice": OURS["notice"]}
    exec("def generated(): return notice()", ours)
    exec("def cell(f): return f()", names)
    cause: Cause = names["cell"](ours["generated"])
    assert cause.place is not None
    assert cause.place.function == "cell"
    assert str(cause.place) == "<string>:1 in cell"


def test_a_path_outside_of_the_current_folder_stays_whole(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(str(tmp_path / "shop" / "services.py"), 42, "set_price")
    assert str(place) == f"{tmp_path}/shop/services.py:42 in set_price"
    monkeypatch.chdir(tmp_path)
    assert str(place) == "shop/services.py:42 in set_price"


# -- what it holds -----------------------------------------------------------------------------------------------------
def test_a_cause_holds_no_frame_no_argument_and_no_service() -> None:
    class Large:
        pass

    def user(argument: Large) -> Cause:
        held = argument
        cause: Cause = OURS["deeper"]()
        assert held is not None
        return cause

    argument = Large()
    gone = weakref.ref(argument)
    cause = user(argument)
    del argument
    gc.collect()
    assert gone() is None
    reached: list[object] = [cause]
    for item in reached:
        reached += [found for found in gc.get_referents(item) if not any(found is known for known in reached)]
        assert not isinstance(item, FrameType)
        if isinstance(item, CodeType):
            break
    assert not gc.is_tracked(cause)


async def test_the_history_keeps_keys_and_causes_no_longer_than_it_is_long() -> None:
    class Product:
        def __init__(self, number: int) -> None:
            self.number = number

        def __hash__(self) -> int:
            return self.number

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Product) and other.number == self.number

    graph = Graph(history=10)
    market = Market()
    attach(market, GraphHosting(graph))
    keys: list[weakref.ref[object]] = []
    for number in range(30):
        product: Any = Product(number)
        node = market.price.function.lookup((product,))
        keys.append(weakref.ref(product))
        node.invalidate()
        del node, product
    gc.collect()
    assert sum(key() is not None for key in keys) <= 10
    await graph.close()
    graph.registry.history.clear()
    gc.collect()
    assert not [key for key in keys if key() is not None]


async def test_the_history_keeps_no_value_and_no_error() -> None:
    graph = Graph()
    market = Market()
    attach(market, GraphHosting(graph))

    class Mistake(Exception):
        pass

    mistake = Mistake()
    gone = weakref.ref(mistake)
    market.errors.append(mistake)
    del mistake
    await market.flaky().update()
    market.flaky.invalidate()
    gc.collect()
    assert gone() is None
    assert next(entry.error for entry in market.flaky.story()) == "Mistake"
    await graph.close()


# -- short texts -------------------------------------------------------------------------------------------------------
@dataclass
class Line:
    product: int
    names: list[str]
    secret: str = field(default="hidden", repr=False)


class Message(msgspec.Struct):
    parts: list[int]


class Model(BaseModel):
    number: int
    password: SecretStr
    many: list[int] = []


class Names(list[str]):
    pass


class Rude:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class Counted:
    looked_at = 0

    def __repr__(self) -> str:
        Counted.looked_at += 1
        return "counted"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        ("c1", "'c1'"),
        (None, "None"),
        ((1, "a"), "(1, 'a')"),
        (Line(3, ["a", "b"]), "Line(product=3, names=['a', 'b'])"),
        (Message([1, 2]), "Message(parts=[1, 2])"),
        (Model(number=1, password=SecretStr("tiger")), "Model(number=1, password=SecretStr('**********'), many=[])"),
        (b"ab", "b'ab'"),
        (Names(["a"]), "['a']"),
        (Rude(), "<Rude>"),
        ([1, Rude()], "[1, <Rude>]"),
    ],
)
def test_a_short_value_is_written_as_it_is(value: object, text: str) -> None:
    assert abridged(value) == text


@pytest.mark.parametrize(
    "value",
    [
        "x" * 1_000_000,
        b"x" * 1_000_000,
        list(range(1_000_000)),
        10**5000,
        Line(3, ["name" * 100] * 10_000),
        Message(list(range(100_000))),
        Names("x" * 100 for _ in range(1000)),
        dict.fromkeys(range(100_000), "x" * 100),
        [[[[[[[["deep"]]]]]]]],
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_long_value_is_cut(value: object) -> None:
    assert len(abridged(value)) <= MAX_CHARS


def test_of_a_long_container_only_some_items_are_looked_at() -> None:
    Counted.looked_at = 0
    abridged([Counted() for _ in range(10_000)])
    abridged(Message([Counted()] * 10_000))  # type: ignore[list-item]
    assert 0 < Counted.looked_at < 30


def test_of_many_arguments_the_first_are_shown() -> None:
    assert abridged_arguments((1, "a")) == "1, 'a'"
    assert abridged_arguments(()) == ""
    assert abridged_arguments(range(100)) == "0, 1, 2, 3, 4, 5, …"
    assert key_text(Key("Carts", "total", ("c" * 1000,))).startswith("Carts.total('ccc")
    assert len(key_text(Key("Carts", "total", ("c" * 1000,)))) < 100


def test_a_command_reads_like_its_call() -> None:
    run = CommandRun("Products.set_price", "3, Decimal('9.99')", "5f0c")
    cause = Cause("command", run)
    assert str(cause) == "command Products.set_price(3, Decimal('9.99')) (id 5f0c)"
    assert cause.command is run
    assert Cause("call").command is None
    assert repr(cause) == f"<Cause command: {cause}>"
