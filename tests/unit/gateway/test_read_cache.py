from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from fusion_cluster.errors import InvalidArgument
from fusion_cluster.host import LocalHost
from fusion_cluster.v1 import gateway_pb2
from fusion_router.gateway.reads import Read, ReadCache, ResultEncodingError
from tests.apps.shelf import Shelf, app, fresh_stock


@pytest.fixture
async def host() -> AsyncIterator[LocalHost]:
    fresh_stock()
    async with app.local(strict=False) as host:  # as processes with gateways are
        yield host


class Resolver:
    """Makes reads of Shelf.count, and counts them."""

    def __init__(self, host: LocalHost) -> None:
        self._host = host
        self.resolved: list[str] = []

    def __call__(self, request: gateway_pb2.CallRequest) -> Read:
        self.resolved.append(request.service)
        return Read(self._host.function("Shelf.count"), (request.service,), "json")


def request(name: str) -> bytes:
    return gateway_pb2.CallRequest(service=name).SerializeToString()


async def test_a_request_that_came_before_is_not_resolved_again(host: LocalHost) -> None:
    resolve = Resolver(host)
    reads = ReadCache(resolve)
    assert reads.read(request("nut")) is reads.read(request("nut"))
    assert reads.read(request("bolt")) is not reads.read(request("nut"))
    assert resolve.resolved == ["nut", "bolt"]


async def test_a_value_is_encoded_once_for_each_version(host: LocalHost) -> None:
    reads = ReadCache(Resolver(host))
    read = reads.read(request("nut"))
    node = read.lookup()
    await node
    first = reads.reply(request("nut"), read, node)
    assert reads.reply(request("nut"), read, node) is first
    await host.service(Shelf).put("nut", 3)
    newer = read.lookup()
    await newer
    second = gateway_pb2.CallReply.FromString(reads.reply(request("nut"), read, newer))
    assert second.value.json == "3"
    assert second.version == newer.version


async def test_what_cannot_be_resolved_is_not_kept(host: LocalHost) -> None:
    def refuse(request: gateway_pb2.CallRequest) -> Read:
        raise InvalidArgument("no")

    reads = ReadCache(refuse)
    for message in (request("nut"), b"\xff"):
        with pytest.raises(InvalidArgument):
            reads.read(message)
    assert len(reads) == 0


async def test_the_bound_in_bytes_holds_and_what_is_used_stays(host: LocalHost) -> None:
    resolve = Resolver(host)
    reads = ReadCache(resolve, max_bytes=20_000)
    for index in range(200):
        name = f"nut {index}"
        read = reads.read(request(name))
        node = read.lookup()
        await node
        reads.reply(request(name), read, node)
        reads.read(request("nut 0"))
    assert 10 < len(reads) < 40
    assert resolve.resolved.count("nut 0") == 1
    reads.read(request("nut 1"))
    assert resolve.resolved.count("nut 1") == 2


async def test_a_value_that_cannot_be_encoded_says_whose(host: LocalHost) -> None:
    read = Read(host.function("Shelf.unknown"), (), "msgpack")
    node = read.lookup()
    await node
    with pytest.raises(ResultEncodingError, match=r"Shelf\.unknown"):
        read.reply(node)
