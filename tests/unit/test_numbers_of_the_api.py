"""Every number that a caller can give is checked where it enters: found by a walk through all public signatures.

A new parameter that is a number fails here until it is checked, or stands below with the reason why it need not be.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import math
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from fusion_cluster import (
    App,
    BackoffDelayer,
    BatchLoader,
    ComputeService,
    CutShortDelayer,
    Database,
    FixedDelayer,
    UserActions,
    compute_method,
)
from fusion_cluster.blocking import BlockingHost, blocking
from fusion_cluster.client import connect, connect_blocking
from fusion_cluster.commands.emitted_event import emitted
from fusion_cluster.errors import FusionError, UsageError
from fusion_cluster.middleware.timing import MethodTimes
from fusion_cluster.testing import LocalCluster
from fusion_router.gateway import Gateway, GatewayLimits
from fusion_router.host import ClusterHost
from fusion_router.member import Member
from fusion_shards.launch import launch

MODULES = (
    "fusion_cluster",
    "fusion_cluster.blocking",
    "fusion_cluster.client",
    "fusion_cluster.database",
    "fusion_cluster.graph",
    "fusion_cluster.middleware",
    "fusion_cluster.state",
)
BESIDES = (LocalCluster, ClusterHost, Gateway, GatewayLimits, launch)

NUMBER = re.compile(r"(int|float)( \| (None|datetime))?")

NOT_CHECKED = {
    "what the library makes and users only read": (
        r"(StoredEvent|Explanation|StoryEntry|Hop|Place|GraphStats|StateSnapshot|Update|Cause|Computed|CommandResult|Failure|Call|Waiter)\b.*"
    ),
    "an error that cannot be made replaces the error that it was to be": r".*\(retry_after_s\)|NotOwner\(.*",
    "asked by the library alone": r".*Delayer\.(delay|retry_delay_s)\(.*|(Fence|Lease).*",
    "which, not how many": r".*\((shard_id|epoch|version|slot_map_version|slot)\)",
    "arguments of calls, checked where the bodies are: tests/unit/services": r"(KeyValueStore|Sessions|Clock)\..*",
    "a node of the graph": r"Node.*",
}


def numbers_in(name: str, function: Any) -> Iterator[str]:
    try:
        parameters = inspect.signature(function, eval_str=False).parameters.values()
    except (TypeError, ValueError, NameError):  # of C, or with a hint that is imported for type checkers alone
        return
    for parameter in parameters:
        if NUMBER.fullmatch(str(getattr(parameter.annotation, "__name__", parameter.annotation))):
            yield f"{name}({parameter.name})"


def public_things() -> Iterator[tuple[str, Any]]:
    for module in map(importlib.import_module, MODULES):
        for name in module.__all__:
            yield name, getattr(module, name)
    for thing in BESIDES:
        yield thing.__name__, thing


def all_numbers() -> set[str]:
    found: set[str] = set()
    for name, thing in public_things():
        if not (getattr(thing, "__module__", "") or "").startswith("fusion"):
            continue
        if inspect.isclass(thing):
            found.update(numbers_in(name, thing.__init__ if "__init__" in vars(thing) else thing))
            for attribute, value in vars(thing).items():
                if not attribute.startswith("_") and inspect.isfunction(value):
                    found.update(numbers_in(f"{name}.{attribute}", value))
        elif callable(thing):
            found.update(numbers_in(name, thing))
    return found


# -- how each is given -------------------------------------------------------------------------------------------------
class Sums(ComputeService):
    @compute_method
    async def double(self, number: int) -> int:
        return 2 * number


@dataclass(frozen=True)
class Happened:
    what: str


app = App("sums", [Sums])


async def look_up(keys: Any) -> dict[Any, Any]:
    return {}


async def entered(opens: Any) -> None:
    async with opens:
        pass


def entered_blocking(opens: AbstractContextManager[Any]) -> None:
    with opens:
        pass


async def cut_short(**given: Any) -> None:
    actions = UserActions()
    actions.notify()
    await actions.cut_short(asyncio.get_running_loop().create_future(), **given)


async def watched(**given: Any) -> None:
    async with connect("127.0.0.1:1", connect_timeout_s=0.001) as client:
        await anext(client.watch("Sums.double", 1, **given))


async def refuse(address: object) -> Any:
    raise ConnectionRefusedError


async def gateway(use: str, **given: Any) -> None:
    host = ClusterHost(app, dial=refuse, peer_id="here", secret=None)
    try:
        await getattr(Gateway(host, acceptor=None), use)(**given)
    finally:
        await Member(host).stop()


async def cluster_host(**given: Any) -> None:
    await Member(ClusterHost(app, dial=refuse, peer_id="here", secret=None, **given)).stop()


@pytest.fixture(scope="module")
def host() -> Iterator[BlockingHost[Any]]:
    with app.local_blocking() as host:
        yield host


# Name → what is called with the parameter alone; a coroutine is run to its end. What is not here is called as it is.
GIVEN: dict[str, Callable[..., Any]] = {
    "BackoffDelayer": lambda **given: BackoffDelayer(**{"max_retry_delay_s": math.inf, **given}),
    "App": partial(App, "sums"),
    "App.local": lambda **given: entered(app.local(**given)),
    "App.local_blocking": lambda **given: entered_blocking(app.local_blocking(**given)),
    "BatchLoader": partial(BatchLoader, look_up),
    "BlockingClient": partial(connect_blocking, "localhost"),
    "BlockingClient.watch": watched,
    "BlockingHost": partial(blocking, app.local()),
    "Client": partial(connect, "localhost"),
    "Client.watch": watched,
    "ClusterHost": cluster_host,
    "CutShortDelayer": partial(CutShortDelayer, FixedDelayer(), UserActions()),
    "Database": partial(Database, "sqlite:////nowhere/none.db"),
    "EventStore.list": Database("sqlite:////nowhere/none.db").events.list,
    "Gateway.stop": partial(gateway, "stop"),
    "Gateway.drain": partial(gateway, "drain"),
    "LocalCluster": partial(LocalCluster, app),
    "LocalCluster.verify": LocalCluster(app).verify,
    "Operation.emit": partial(emitted, Happened("now")),
    "MethodTimes.quantile_s": lambda **given: MethodTimes("Sums.double", "compute").quantile_s(**given),
    "UserActions.cut_short": cut_short,
    "blocking": partial(blocking, app.local()),
    "connect": partial(connect, "localhost"),
    "connect_blocking": partial(connect_blocking, "localhost"),
    "launch": partial(launch, "tests.apps.sheet:app"),
}
OF_AN_OPEN_HOST: dict[str, Callable[..., Any]] = {
    "BlockingHost.service": lambda host, **given: host.service(Sums, **given),
    "BlockingIterator.next": lambda host, **given: host.service(Sums).double.changes(1).next(**given),
    "ComputedView.update": lambda host, **given: view(host).update(**given),
    "ComputedView.when_invalidated": lambda host, **given: view(host).when_invalidated(**given),
}
DOES_MORE = {
    *("ComputedView.when_invalidated", "EventStore.list", "LocalCluster.verify", "UserActions.cut_short", "launch")
}
"""What is not called with a number that is right: it waits, asks a database, or starts an app."""


def view(host: BlockingHost[Any]) -> Any:
    sums: Any = host.service(Sums)
    sums.double(1)
    return sums.double.peek(1)


def give(host: BlockingHost[Any], number: str, value: object) -> None:
    name, parameter = re.fullmatch(r"(.*)\((.*)\)", number).groups()  # type: ignore[union-attr]
    if name in OF_AN_OPEN_HOST:
        OF_AN_OPEN_HOST[name](host, **{parameter: value})
        return
    made = (GIVEN.get(name) or dict(public_things())[name])(**{parameter: value})
    if inspect.iscoroutine(made):
        asyncio.run(made)


CHECKED = sorted(
    number for number in all_numbers() if not any(re.fullmatch(names, number) for names in NOT_CHECKED.values())
)
MAY_BE_PAST = ("expire_after(delay_s)", "expire_at(moment)")
WRONG = (math.nan, Decimal("NaN"), "5", b"5", True, timedelta(seconds=5), [5], 5j, object(), -1, -(10**400))
LARGE = (math.inf, 1e12, 1e300, 10**400, Decimal("1e400"), 2**63, 2**31)


def test_there_are_numbers_to_look_at() -> None:
    assert len(CHECKED) > 60
    assert {"connect(timeout_s)", "LocalCluster(shards)", "ComputeOptions(error_delay)", "launch(grpc_port)"} <= set(
        CHECKED
    )


@pytest.mark.parametrize("number", CHECKED)
def test_what_is_not_a_number_is_refused_by_name(number: str, host: BlockingHost[Any]) -> None:
    for value in WRONG:
        if number in MAY_BE_PAST and value in (-1, -(10**400)):
            continue
        with pytest.raises(UsageError) as refused:
            give(host, number, value)
        assert f"({refused.value.field})" in number, (value, refused.value)
        assert refused.value.field in str(refused.value), value
        assert len(str(refused.value)) < 300


@pytest.mark.parametrize("number", [number for number in CHECKED if number.partition("(")[0] not in DOES_MORE])
def test_a_number_that_is_large_works_or_is_refused_by_name(number: str, host: BlockingHost[Any]) -> None:
    for value in LARGE:
        try:
            give(host, number, value)
        except UsageError as error:
            if f"({error.field})" not in number and number not in MAY_BE_PAST:
                raise AssertionError(f"{value!r}: the error names nothing: {error}") from error
        except FusionError:  # nobody answers at the address
            if not number.endswith("watch(min_interval_s)"):
                raise


def test_the_walk_sees_a_number_that_is_new() -> None:
    def function(pause_s: float, count: int | None = None, name: str = "") -> None: ...

    assert set(numbers_in("f", function)) == {"f(pause_s)", "f(count)"}
