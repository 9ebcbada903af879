"""What cannot be a service method is refused where it is defined, in words that say what to write instead."""

import abc
import functools
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from fusion_cluster import App, ComputeService, command, compute_method, event_handler
from fusion_cluster.errors import UsageError

DECORATORS: list[Callable[[Any], Any]] = [compute_method, command, event_handler]


async def body(self: Any, number: int) -> int:
    return number


def plain(self: Any, number: int) -> int:
    return number


async def handle(self: Any, event: str) -> None: ...


async def generate(self: Any) -> AsyncIterator[int]:
    yield 1


def wrapper(inner: Any) -> Any:
    @functools.wraps(inner)
    def around(*args: Any, **kwargs: Any) -> Any:
        return inner(*args, **kwargs)

    return around


class Around:
    """A decorator that is an object."""

    def __init__(self, inner: Any) -> None:
        functools.update_wrapper(self, inner, updated=())

    def __call__(self, *args: Any) -> None: ...


HIDING: list[Callable[[Any], Any]] = [
    classmethod,
    staticmethod,
    property,
    functools.cached_property,
    functools.lru_cache,
    functools.partialmethod,
    functools.partial,
    wrapper,
    Around,
    lambda inner: wrapper(wrapper(inner)),
    lambda inner: classmethod(wrapper(inner)),
    lambda inner: property(functools.lru_cache(inner)),
]


def made(decorator: Callable[[Any], Any]) -> Any:
    return decorator(handle if decorator is event_handler else body)


@pytest.mark.parametrize("decorator", DECORATORS)
@pytest.mark.parametrize("hide", HIDING)
@pytest.mark.parametrize("is_mixed_in", [False, True])
def test_nothing_may_stand_above_our_decorators(
    hide: Callable[[Any], Any], decorator: Callable[[Any], Any], is_mixed_in: bool
) -> None:
    members = {"price": hide(made(decorator))}
    bases: tuple[type, ...] = (ComputeService,)
    if is_mixed_in:
        bases = (type("Mixin", (), members), ComputeService)
        members = {}
    with pytest.raises(UsageError, match=rf"^Shop.price is a .* around a {decorator.__name__}") as caught:
        type("Shop", bases, members)
    assert f"write @{decorator.__name__} above all others" in caught.value.message
    assert caught.value.field == "price"


@pytest.mark.parametrize("decorator", DECORATORS)
@pytest.mark.parametrize(
    ("beneath", "what"),
    [
        (classmethod(body), "body, which is a classmethod"),
        (staticmethod(body), "body, which is a staticmethod"),
        (property(cast("Any", body)), "body, which is a property"),
        (functools.cached_property(cast("Any", body)), "body, which is a property"),
        (functools.partial(body), "body, which is a partial"),
        (functools.partialmethod(body), "body, which is a partial"),
        (compute_method(body), "body, which is a compute_method already"),
        (command(body), "body, which is a command already"),
        (event_handler(handle), "handle, which is a event_handler already"),
        (lambda self: 1, "which is a lambda"),
        (ComputeService, "ComputeService, which is a class"),
        (Around(body), "which is not a function"),
        (len, "len, which is bound, or not written in Python"),
        ("a text", "which is not a function"),
        (60, "60, which is not a function"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_what_is_not_a_method_is_refused(decorator: Callable[[Any], Any], beneath: Any, what: str) -> None:
    with pytest.raises(UsageError, match=rf"^@{decorator.__name__} on .*{what}"):
        decorator(beneath)


@pytest.mark.parametrize("decorator", DECORATORS)
def test_generators_are_refused(decorator: Callable[[Any], Any]) -> None:
    with pytest.raises(UsageError, match="generate is a generator"):
        decorator(generate)


@pytest.mark.parametrize("decorator", [command, event_handler])
def test_commands_and_handlers_are_async(decorator: Callable[[Any], Any]) -> None:
    with pytest.raises(UsageError, match=rf"^@{decorator.__name__}: plain must be an async def"):
        decorator(plain)


def test_an_async_def_in_a_plain_wrapper_is_refused() -> None:
    with pytest.raises(UsageError, match="body must be an async def: it is one, but a decorator beneath"):
        compute_method(wrapper(body))


async def test_an_async_def_in_an_async_wrapper_is_a_method() -> None:
    @functools.wraps(body)
    async def around(self: Any, *args: Any) -> Any:
        return 1 + await body(self, *args)

    service: Any = type("Shop", (ComputeService,), {"price": compute_method(around)})
    async with App("shop", [service]).local() as host:
        assert await host.service(service).price(2) == 3


@pytest.mark.parametrize("decorator", DECORATORS)
def test_a_method_of_a_class_that_is_not_a_service_says_so_when_it_is_used(decorator: Callable[[Any], Any]) -> None:
    shop: Any = type("Shop", (), {"price": made(decorator)})()
    with pytest.raises(UsageError, match=r"a .*, and a Shop is not a service"):
        shop.price(1)


def test_a_function_outside_of_a_class_says_so_when_it_is_called() -> None:
    function: Any = compute_method(body)
    with pytest.raises(UsageError, match="body is a compute_method, and a int is not a service"):
        function(1)


def test_a_class_may_be_mixed_into_services() -> None:
    mixin: Any = type("Mixin", (), {"price": compute_method(body)})
    service = type("Shop", (mixin, ComputeService), {})
    assert "Shop.price" in App("shop", [service]).methods


@pytest.mark.parametrize("name", ["database", "service_name", "shard_group", "compute_defaults"])
def test_names_that_services_have_are_not_for_methods(name: str) -> None:
    with pytest.raises(UsageError, match=rf"^Shop.{name}: this name has another meaning") as caught:
        type("Shop", (ComputeService,), {name: compute_method(body)})
    assert caught.value.field == name


def test_a_method_has_one_name() -> None:
    method = compute_method(body)
    with pytest.raises(UsageError, match=r"^Shop.second is Shop.first under another name"):
        type("Shop", (ComputeService,), {"first": method, "second": method})
    base = type("Base", (ComputeService,), {"first": compute_method(body)})
    with pytest.raises(UsageError, match=r"^Shop.second is Shop.first under another name"):
        type("Shop", (base,), {"second": base.__dict__["first"]})


def test_what_is_put_into_a_class_later_is_looked_at_when_the_app_is_made() -> None:
    service: Any = type("Shop", (ComputeService,), {})
    service.price = classmethod(compute_method(body))
    with pytest.raises(UsageError, match=r"^Shop.price is a classmethod around a compute_method"):
        App("shop", [service])


@pytest.mark.parametrize("bases", [(ComputeService,), (ComputeService, abc.ABC)])
@pytest.mark.parametrize(
    "declare", [lambda: abc.abstractmethod(compute_method(body)), lambda: compute_method(abc.abstractmethod(body))]
)
async def test_an_abstract_service_is_refused_and_one_that_is_complete_works(
    bases: tuple[type, ...], declare: Callable[[], Any]
) -> None:
    async def declared(self: Any, number: int) -> int:
        raise NotImplementedError

    declare.__globals__["body"], original = declared, body
    try:
        method = declare()
    finally:
        declare.__globals__["body"] = original
    base: Any = (
        abc.ABCMeta("Base", bases, {"price": method}) if abc.ABC in bases else type("Base", bases, {"price": method})
    )
    with pytest.raises(UsageError, match=r"^Base is abstract: it leaves price to its subclasses"):
        App("shop", [base])
    whole: Any = type(base)("Whole", (base,), {"price": compute_method(body)})
    async with App("shop", [whole]).local() as host:
        assert await host.service(whole).price(3) == 3


@pytest.mark.parametrize("use", ["function", "invalidate", "peek", "anything"])
def test_a_service_that_nobody_hosts_says_so_however_it_is_used(use: str) -> None:
    shop: Any = type("Shop", (ComputeService,), {"price": compute_method(body)})()
    with pytest.raises(UsageError, match="Shop is not hosted"):
        getattr(shop.price, use)(1)
