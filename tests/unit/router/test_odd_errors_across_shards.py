"""A.25 in a cluster, in commands and behind look-ups: each odd error is what it is for its caller, and all serve on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from fusion_cluster import App, BatchLoader, ComputeService, command, compute_method
from fusion_cluster.errors import BodyCancelled, BodyExited, RemoteError
from fusion_cluster.graph import gather
from fusion_cluster.host import LocalHost
from fusion_cluster.middleware import Call, Next
from fusion_cluster.testing import LocalCluster
from fusion_cluster.wire.errors import RemoteTraceback
from tests.faults.odd_errors import EXCEPTIONS, EXITS, state_of

KINDS = [*EXCEPTIONS, *EXITS, "CancelledError"]
TYPELESS = ("unpicklable", "local class", "pydantic", "stop async")
"""Whose class, or what they hold, does not travel."""


def make(kind: str) -> BaseException:
    if kind == "CancelledError":
        return asyncio.CancelledError("by itself")
    return {**EXCEPTIONS, **EXITS}[kind]()


async def look_up(keys: Sequence[str]) -> dict[str, Any]:
    if "all" in keys[0]:
        raise make(keys[0].removesuffix(" all"))
    found: dict[str, Any] = {key: make(key) for key in keys}
    return found


class Shaky(ComputeService):
    loader = BatchLoader(look_up)

    @compute_method
    async def read(self, kind: str) -> int:
        raise make(kind)

    @compute_method
    async def found(self, key: str) -> Any:
        return await self.loader.load(key)

    @compute_method
    async def passed_on(self, kind: str) -> int:
        return await self.read(kind)

    @command
    async def change(self, kind: str) -> None:
        raise make(kind)

    @command
    async def nested(self, kind: str) -> None:
        await self.change(kind)

    @compute_method
    async def well(self, number: int) -> int:
        return number

    @compute_method
    async def passed(self, kind: str) -> str:
        return kind


async def raising(call: Call, next: Next) -> Any:
    result = await next(call)
    if call.method_name == "passed":
        raise make(result)
    return result


app = App("shaky", [Shaky], middleware=[raising])
METHODS = ["read", "passed_on", "change", "nested", "passed"]


@pytest.fixture
async def host() -> AsyncIterator[LocalHost]:
    async with app.local(strict=False) as host:
        yield host


async def caught(awaitable: Any) -> BaseException:
    try:
        await awaitable
    except asyncio.CancelledError as error:
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
        return error
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def is_as_raised(error: BaseException, kind: str, *, is_computed: bool) -> bool:
    if kind in EXCEPTIONS:
        return state_of(error)[0].__name__ == type(make(kind)).__name__ and state_of(error) == state_of(make(kind))
    if kind == "CancelledError" and is_computed:
        return type(error) is asyncio.CancelledError
    return type(error) is (BodyCancelled if kind == "CancelledError" else BodyExited) and f"raised {kind}" in str(error)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("unpicklable", "local class", "pydantic")])
@pytest.mark.parametrize("method", METHODS)
async def test_in_one_process(method: str, kind: str, host: LocalHost) -> None:
    shaky = host.service(Shaky)
    for _ in range(2):
        error = await caught(getattr(shaky, method)(kind))
        assert is_as_raised(error, kind, is_computed=method not in ("change", "nested"))


async def test_in_look_ups_each_caller_is_given_its_own(host: LocalHost) -> None:
    shaky = host.service(Shaky)
    for kind in [kind for kind in EXCEPTIONS if kind not in ("unpicklable", "local class", "pydantic")]:
        calls = [caught(shaky.loader.load(f"{kind} all")) for _ in range(2)] + [caught(shaky.found(kind))]
        errors = await asyncio.gather(*calls)
        assert all(state_of(error) == state_of(make(kind)) for error in errors)
        assert len({id(error) for error in errors}) == 3
    for kind in EXITS:
        assert type(await caught(shaky.found(f"{kind} all"))) is BodyExited


async def test_across_shards_and_all_serve_on() -> None:
    async with LocalCluster(app, shards=2) as cluster:
        shaky = cluster.service(Shaky)
        for kind in KINDS:
            for method in METHODS:
                error = await caught(getattr(shaky, method)(kind))
                name = type(make(kind)).__name__
                if kind in EXITS or kind == "CancelledError":
                    assert type(error) is (BodyExited if kind in EXITS else BodyCancelled)
                    assert f" raised {name}" in str(error)
                elif kind in TYPELESS:
                    assert isinstance(error, RemoteError)
                    assert error.error_type == name
                else:
                    assert isinstance(error, type(make(kind))), (kind, method)
                    notes = BaseException.__dict__["__dict__"].__get__(error).get("__notes__", [])
                    told = "".join(note for note in notes if isinstance(note, RemoteTraceback))
                    assert "raise make(" in told, (kind, method)
        assert await gather(*(shaky.well(number) for number in range(100))) == list(range(100))
