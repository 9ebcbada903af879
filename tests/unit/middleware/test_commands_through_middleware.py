"""Around commands: each run of a body passes, that of a nested command too, and a replay does not."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from fusion_cluster import Call, Next, UsageError
from tests.apps.shelves import ShelfRow, Shelves
from tests.unit.middleware.bakery import Recorder, baking, customer, shelving


def busy() -> OperationalError:
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode, error.sqlite_errorname = 5, "SQLITE_BUSY"
    return OperationalError("INSERT", {}, error)


async def test_a_command_says_what_it_is() -> None:
    recorder = Recorder()
    async with baking(recorder) as bakery:
        assert await bakery.set_price("roll", 3) == 2
    (call,) = recorder.calls
    assert (call.kind, call.name) == ("command", "Bakery.set_price")
    assert (call.arguments, call.parameter_names) == (("roll", 3), ("product", "price"))
    assert call.service is bakery
    assert call.command_id
    assert not call.is_nested


async def test_a_nested_command_passes_too_and_is_part_of_the_same_run() -> None:
    recorder = Recorder()
    async with baking(recorder) as bakery:
        await bakery.set_prices({"roll": 3, "cake": 30})
    assert [call.name for call in recorder.calls] == ["Bakery.set_prices", "Bakery.set_price", "Bakery.set_price"]
    assert [call.is_nested for call in recorder.calls] == [False, True, True]
    assert len({call.command_id for call in recorder.calls}) == 1


async def test_a_command_that_a_middleware_calls_is_nested_in_the_one_that_passes() -> None:
    async def noting(call: Call, next: Next) -> Any:
        result = await next(call)
        if call.method_name == "order":
            await call.service.set_price("roll", 9)  # type: ignore[attr-defined]
        return result

    recorder = Recorder()
    async with baking(noting, recorder) as bakery:
        assert await bakery.order("roll") == "one roll for nobody"
        assert bakery.prices["roll"] == 9
    assert [(call.method_name, call.is_nested) for call in recorder.calls] == [("order", False), ("set_price", True)]


async def test_a_command_has_the_context_of_its_caller_and_of_its_middleware() -> None:
    async def naming(call: Call, next: Next) -> Any:
        customer.set(f"{customer.get()} Smith")
        return await next(call)

    async with baking(naming) as bakery:
        token = customer.set("Ann")
        assert await bakery.order("roll") == "one roll for Ann Smith"
        customer.reset(token)


async def test_the_id_is_the_callers_where_it_has_made_one(tmp_path: Path) -> None:
    recorder = Recorder()
    async with shelving(tmp_path, recorder) as host:
        await host.execute(host.command("Shelves.put").invocation((1, 5), "id-1"))
    assert [call.command_id for call in recorder.calls] == ["id-1"]


async def test_a_replayed_command_does_not_pass_again(tmp_path: Path) -> None:
    async def louder(call: Call, next: Next) -> Any:
        return f"{await next(call)}!"

    recorder = Recorder()
    async with shelving(tmp_path, recorder, louder) as host:
        put = host.command("Shelves.put")
        first = await host.execute(put.invocation((1, 5), "id-1"))
        assert await host.execute(put.invocation((1, 5), "id-1")) == first == "1 holds 5!"
    assert recorder.names == ["Shelves.put(1, 5)"]


async def test_each_run_after_a_transient_error_of_the_database_passes(tmp_path: Path) -> None:
    errors: list[Exception] = [busy(), busy()]

    async def failing(call: Call, next: Next) -> Any:
        if call.kind == "command" and errors:
            raise errors.pop(0)
        return await next(call)

    recorder = Recorder()
    async with shelving(tmp_path, recorder, failing) as host:
        assert await host.service(Shelves).put(1, 5) == "1 holds 5"
    assert recorder.names == ["Shelves.put(1, 5)"] * 3
    assert len({call.command_id for call in recorder.calls}) == 1


async def test_a_second_run_after_a_commit_cannot_commit_again(tmp_path: Path) -> None:
    async def twice(call: Call, next: Next) -> Any:
        result = await next(call)
        return await next(call) if call.kind == "command" else result

    async with shelving(tmp_path, twice) as host:
        with pytest.raises(UsageError, match="has committed an operation already"):
            await host.service(Shelves).put(1, 5)
        assert await host.service(Shelves).amount(1) == 5


async def test_what_a_command_has_committed_is_published_whatever_a_middleware_raises_then(tmp_path: Path) -> None:
    async def complaining(call: Call, next: Next) -> Any:
        result = await next(call)
        if call.kind == "command":
            raise LookupError("too late")
        return result

    async with shelving(tmp_path, complaining) as host:
        shelves = host.service(Shelves)
        assert await shelves.amount(1) == 0
        with pytest.raises(LookupError, match="too late"):
            await shelves.put(1, 5)
        assert await shelves.amount(1) == 5


async def test_an_operation_of_a_middleware_is_around_that_of_the_command(tmp_path: Path) -> None:
    """All or nothing, for whatever a middleware writes with a command: an audit, say."""

    async def auditing(call: Call, next: Next) -> Any:
        if call.kind != "command" or call.is_nested:
            return await next(call)
        async with call.service.database.operation() as operation:
            await operation.session.merge(ShelfRow(id=99, amount=call.argument("amount")))
            result = await next(call)
            if call.argument("amount") < 0:
                raise ValueError("less than nothing")
            return result

    async with shelving(tmp_path, auditing) as host:
        shelves = host.service(Shelves)
        assert await shelves.put(1, 5) == "1 holds 5"
        assert (await shelves.amount(1), await shelves.amount(99)) == (5, 5)
        with pytest.raises(ValueError, match="less than nothing"):
            await shelves.put(1, -5)
        async with shelves.database.session() as session:
            amounts = [(await session.get_one(ShelfRow, id)).amount for id in (1, 99)]
        assert amounts == [5, 5]
