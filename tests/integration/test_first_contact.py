"""A client, or the command line, that finds no gateway at its address: it says in time, and in words, what is there."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from fusion_cluster.cli.main import FAILED, MISUSED, run
from fusion_cluster.client import Client, connect, connect_blocking
from fusion_cluster.errors import ShardUnavailable
from tests.apps.shelf import Shelf, app, fresh_stock
from tests.certificates import write_certificate
from tests.clients import Front, fronted
from tests.gateways import serving_locally
from tests.waiting import until

CONNECT_S = 1.0
"""Long enough for whoever answers at all, also on a busy machine."""

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(1000):
        pass


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    pass


async def speak_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readline()
    writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")


async def speak_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 mail.example ESMTP ready\r\n")
    await say_nothing(reader, writer)


@asynccontextmanager
async def tcp(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    served: set[asyncio.Task[object] | None] = set()

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.add(asyncio.current_task())
        try:
            with contextlib.suppress(ConnectionError):
                await serve(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(run, "127.0.0.1", 0, ssl=tls)
    async with server:
        host, port = server.sockets[0].getsockname()
        yield f"{host}:{port}"
        for task in filter(None, served):
            task.cancel()
        await asyncio.gather(*filter(None, served), return_exceptions=True)


@asynccontextmanager
async def other_grpc() -> AsyncIterator[str]:
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@asynccontextmanager
async def nobody() -> AsyncIterator[str]:
    async with tcp(hang_up) as address:
        pass
    yield address


@asynccontextmanager
async def place(kind: str, folder: Path) -> AsyncIterator[tuple[str, str]]:
    """An address at which there is no gateway, and what is to be said of it."""
    if kind == "a name that nobody has":
        yield "no-such-host.invalid:50051", "the name is not known"
    elif kind == "no socket":
        yield f"unix:{folder}/none.sock", "there is no such socket"
    elif kind == "nobody":
        async with nobody() as address:
            yield address, "nobody listens there"
    elif kind == "nobody at several":
        async with nobody() as address, nobody() as other:
            yield f"{address},{other}", "nobody listens there"
    elif kind == "another gRPC server":
        async with other_grpc() as address:
            yield address, "a gRPC server answers there that is not a gateway"
    elif kind == "TLS":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*write_certificate(folder))
        async with tcp(say_nothing, context) as address:
            yield address, "wants TLS"
    else:
        serve, words = {
            "HTTP": (speak_http, "an HTTP server answers there"),
            "mail": (speak_first, "does not speak gRPC"),
            "silence": (say_nothing, "says nothing"),
            "hangs up": (hang_up, "ends each connection at once"),
        }[kind]
        async with tcp(serve) as address:
            yield address, words


KINDS = (
    "nobody",
    "nobody at several",
    "a name that nobody has",
    "no socket",
    "silence",
    "hangs up",
    "HTTP",
    "mail",
    "TLS",
    "another gRPC server",
)
AT_ONCE = {"a name that nobody has", "HTTP", "mail", "TLS", "another gRPC server"}
"""Where waiting would not help."""


async def by_name(client: Client) -> object:
    return await client.call("Shelf.count", "nut")


async def command_by_name(client: Client) -> object:
    return await client.execute("Shelf.put", "nut", 1)


async def described(client: Client) -> object:
    return await client.describe()


async def watched(client: Client) -> object:
    return await anext(client.watch("Shelf.count", "nut"))


async def typed(client: Client) -> object:
    return await client.service(Shelf).count("nut")


async def typed_command(client: Client) -> object:
    return await client.service(Shelf).put("nut", 1)


@pytest.mark.parametrize("kind", KINDS)
async def test_the_first_use_says_who_is_there_instead(kind: str, tmp_path: Path) -> None:
    async with (
        place(kind, tmp_path) as (address, words),
        connect(address, timeout_s=60, connect_timeout_s=30 if kind in AT_ONCE else CONNECT_S) as client,
    ):
        began_s = time.monotonic()
        with pytest.raises(ShardUnavailable) as raised:
            await by_name(client)
        assert time.monotonic() - began_s < 20
        assert words in str(raised.value)
        assert client.address in str(raised.value)


@pytest.mark.parametrize("use", [by_name, command_by_name, described, watched, typed, typed_command])
async def test_every_use_fails_within_the_connect_timeout(use: Callable[[Client], Awaitable[object]]) -> None:
    async with nobody() as address, connect(address, timeout_s=60, connect_timeout_s=0.2) as client:
        began_s = time.monotonic()
        uses = [asyncio.ensure_future(use(client)) for _ in range(3)]
        await asyncio.wait(uses)
        assert time.monotonic() - began_s < 20
        errors = [one.exception() for one in uses]
        for error in errors:
            assert isinstance(error, ShardUnavailable)
            assert str(error) == f"no gateway answered at {address} within 0.2 s: nobody listens there"
        if use not in (typed,):  # a computed has one error for all who read it
            assert len({id(error) for error in errors}) == 3


def test_a_blocking_client_says_it_too() -> None:
    with connect_blocking("no-such-host.invalid") as client, pytest.raises(ShardUnavailable, match="name is not known"):
        client.call("Shelf.count", "nut")
    with (
        connect_blocking("127.0.0.1:1", connect_timeout_s=0.2) as client,
        pytest.raises(ShardUnavailable, match="nobody listens there"),
    ):
        client.service(Shelf).count("nut")


async def test_the_connect_timeout_is_never_longer_than_the_timeout() -> None:
    async with nobody() as address, connect(address, timeout_s=0.2) as client:
        with pytest.raises(ShardUnavailable, match=r"within 0\.2 s"):
            await client.call("Shelf.count", "nut")


async def test_a_gateway_that_starts_within_the_connect_timeout_is_waited_for() -> None:
    fresh_stock()
    async with fronted(app) as front:
        await front.stop()
        async with connect(front.address, connect_timeout_s=60) as client:
            waiting = asyncio.ensure_future(client.call("Shelf.count", "nut"))
            typed_too = asyncio.ensure_future(typed(client))
            await asyncio.sleep(0)
            await front.start()
            assert (await waiting, await typed_too) == (0, 0)


@pytest.mark.parametrize("use", [by_name, typed])
async def test_a_gateway_that_was_there_is_waited_for_until_the_timeout(
    use: Callable[[Client], Awaitable[object]],
) -> None:
    fresh_stock()
    async with fronted(app) as front, connect(front.address, timeout_s=1.0, connect_timeout_s=0.5) as client:
        assert await use(client) == 0
        await lose(front, client)
        began_s = time.monotonic()
        with pytest.raises(ShardUnavailable, match=rf"the gateway at {front.address} was away for 1 s"):
            await use(client)
        assert time.monotonic() - began_s > 0.8


async def lose(front: Front, client: Client) -> None:
    await front.stop()
    await until(lambda: not client.is_connected)


async def test_when_one_of_several_gateways_is_gone_another_answers() -> None:
    fresh_stock()
    async with serving_locally(app) as one, serving_locally(app) as other, nobody() as nowhere:
        addresses = [nowhere, one.gateway.address, other.gateway.address]
        async with connect(addresses, timeout_s=20) as client:
            assert await client.call("Shelf.count", "nut") == 0
            await one.gateway.stop(0.1)
            assert await client.call("Shelf.count", "nut") == 0
            assert other.host.graph.stats.hits + other.host.graph.stats.computations > 0


@pytest.mark.parametrize(
    "words",
    [
        ["call", "Shelf.count", "nut"],
        ["watch", "Shelf.count", "nut"],
        ["execute", "Shelf.put", "nut", "1"],
        ["describe"],
    ],
    ids=lambda words: words[0],
)
def test_the_command_line_says_at_once_that_nobody_is_there(
    words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    address = f"unix:{tmp_path}/none.sock"
    assert run([*words, "--address", address, "--timeout", "60"]) == FAILED
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"error: no gateway at {address}: there is no such socket\n"


@pytest.mark.parametrize("address", ["", "localhost:no", "http://localhost:1", "me:secret@here"])
def test_the_command_line_says_what_is_wrong_with_an_address(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["call", "Shelf.count", "nut", "--address", address]) == MISUSED
    error = capsys.readouterr().err
    assert error.startswith("error: --address ")
    assert error.count("\n") == 1
    assert "secret" not in error


def test_an_address_of_the_environment_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUSION_CLUSTER_ADDRESS", "localhost:no")
    assert run(["describe"]) == MISUSED
    assert "FUSION_CLUSTER_ADDRESS" in capsys.readouterr().err


@pytest.mark.parametrize("variable", ["http_proxy", "https_proxy", "grpc_proxy"])
async def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh_stock()
    async with nobody() as proxy, serving_locally(app) as served:
        monkeypatch.setenv(variable, f"http://{proxy}")
        port = served.gateway.address.rpartition(":")[2]
        for address in (served.gateway.address, f"localhost:{port}", f"0.0.0.0:{port}"):
            async with connect(address, timeout_s=20) as client:
                assert await client.call("Shelf.count", "nut") == 0


async def test_a_proxy_that_stands_in_the_way_of_another_machine_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async with nobody() as proxy:
        monkeypatch.setenv("http_proxy", f"http://{proxy}")
        async with connect("192.0.2.1:50051", connect_timeout_s=0.2) as client:
            with pytest.raises(ShardUnavailable, match="behind the proxy that http_proxy names"):
                await client.call("Shelf.count", "nut")
