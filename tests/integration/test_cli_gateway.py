"""`fusion-cluster call`, `watch`, `execute` and `describe` as a person uses them: in a process of their own."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import pytest

from tests.apps.shelf import Stock, app, fresh_stock
from tests.gateways import Served, serving_locally
from tests.processes.started import running


@pytest.fixture
def stock() -> Stock:
    return fresh_stock()


@pytest.fixture
async def served(stock: Stock) -> AsyncIterator[Served]:
    async with serving_locally(app) as served:
        yield served


def started(served: Served, *words: str) -> AbstractAsyncContextManager[Process]:
    command = [sys.executable, "-m", "fusion_cluster.cli", *words, "--address", served.gateway.address]
    return running(*command, stdout=PIPE, stderr=PIPE)


async def cli(served: Served, *words: str) -> tuple[int | None, str, str]:
    async with started(served, *words) as process:
        out, err = await asyncio.wait_for(process.communicate(), 30)
    assert "Traceback" not in err.decode()
    return process.returncode, out.decode(), err.decode()


async def line(process: Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), 30)).decode().rstrip("\n")


async def test_call_prints_the_value(served: Served, stock: Stock) -> None:
    stock.counts["nut"] = 3
    code, out, _ = await cli(served, "call", "Shelf.item", "nut", "2.50")
    assert code == 0
    assert json.loads(out) == {"name": "nut", "count": 3, "price": "2.5"}


async def test_call_prints_the_value_for_machines(served: Served, stock: Stock) -> None:
    stock.counts["nut"] = 3
    assert await cli(served, "call", "Shelf.item", "nut", "--json") == (
        0,
        '{"name":"nut","count":3,"price":"1.5"}\n',
        "",
    )


async def test_execute_prints_the_result(served: Served, stock: Stock) -> None:
    assert await cli(served, "execute", "Shelf.put", "nut", "-4", "--json") == (0, "0\n", "")
    assert stock.counts["nut"] == -4


async def test_errors_are_one_line_and_an_exit_code(served: Served) -> None:
    code, out, err = await cli(served, "call", "Shelf.fail", "luck")
    assert (code, out, err) == (1, "", "error: ValueError: no luck here\n")
    code, _, err = await cli(served, "call", "Nowhere.count", "nut")
    assert code == 2
    assert "Nowhere" in err
    code, _, err = await cli(served, "call", "Shelf.count", "1")
    assert code == 2
    assert "name" in err


async def test_watch_prints_each_change_until_ctrl_c(served: Served) -> None:
    async with started(served, "watch", "Shelf.count", "nut", "--json") as process:
        assert json.loads(await line(process))["value"] == 0
        await served.execute("Shelf.put", "nut", 5)
        assert json.loads(await line(process))["value"] == 5
        process.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, out, err) == (0, b"", b"")


async def test_watch_ends_after_so_many_updates_and_shows_errors(served: Served, stock: Stock) -> None:
    stock.failures.append(ValueError("out of order"))
    code, out, _ = await cli(served, "watch", "Shelf.flaky", "nut", "--count", "1")
    assert code == 0
    assert "ValueError: out of order" in out


async def test_describe_shows_signatures(served: Served) -> None:
    code, out, _ = await cli(served, "describe")
    assert code == 0
    assert "count(name: str) -> int" in out
    assert 'item(name: str, price: Decimal = "1.50") -> Item | None' in out
    code, out, _ = await cli(served, "describe", "Shelf", "--json")
    assert code == 0
    assert json.loads(out)["services"][0]["name"] == "Shelf"
