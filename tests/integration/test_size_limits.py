"""One limit for the arguments and one for the result of a call: from Python, by a client, and in JSON."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from fusion_cluster import App, ComputeService, command, compute_method
from fusion_cluster.client import connect
from fusion_cluster.errors import InvalidArgument, ResourceExhausted
from fusion_cluster.testing import LocalCluster
from fusion_cluster.wire.codec import MAX_ARGUMENTS_BYTES
from fusion_cluster.wire.results import MAX_RESULT_BYTES
from tests.clients import fronted
from tests.gateways import field_of, serving


class Bulk(ComputeService):
    @compute_method
    async def size(self, label: str, data: bytes = b"", parts: tuple[str, ...] = ()) -> int:
        return len(label) + len(data) + sum(map(len, parts))

    @command
    async def put(self, label: str, data: bytes) -> int:
        return len(data)

    @compute_method
    async def get(self, size: int) -> str:
        return "x" * size

    @command
    async def make(self, size: int) -> str:
        return "x" * size


app = App("bulk", [Bulk])
FULL = MAX_ARGUMENTS_BYTES  # with what surrounds it, it is longer than that


async def refuses_what_is_too_large(bulk: Any) -> None:
    half = "x" * (FULL // 2 + 1)
    for method, arguments, field in (
        (bulk.size, ("x" * FULL,), "label"),
        (bulk.size, ("a", b"x" * FULL), "data"),
        (bulk.size, (half[1:], b"", (half,)), "parts"),
        (bulk.put, ("a", b"x" * FULL), "data"),
    ):
        with pytest.raises(InvalidArgument, match=rf"^Bulk\.\w+: .*{MAX_ARGUMENTS_BYTES:,}") as caught:
            await method(*arguments)
        assert (caught.value.field, caught.value.is_transient) == (field, False)


async def sends_what_is_as_large_as_allowed(bulk: Any) -> None:
    assert await bulk.put("a", b"x" * (FULL - 20)) == FULL - 20
    assert len(await bulk.make(MAX_RESULT_BYTES - 20)) == MAX_RESULT_BYTES - 20


async def returns_only_what_can_be_sent(bulk: Any) -> None:
    for method, call in (("get", bulk.get), ("make", bulk.make)):
        text = rf"^Bulk\.{method}: the result takes .*{MAX_RESULT_BYTES:,}"
        with pytest.raises(ResourceExhausted, match=text) as caught:
            await call(MAX_RESULT_BYTES)
        assert not caught.value.is_transient


async def test_arguments_and_results_have_one_limit_each_in_every_setting() -> None:
    async with app.local(strict=True) as host:
        await refuses_what_is_too_large(host.service(Bulk))
        await returns_only_what_can_be_sent(host.service(Bulk))
    async with fronted(app) as front:
        await refuses_what_is_too_large(front.cluster.service(Bulk))
        async with connect(front.address) as client:
            await refuses_what_is_too_large(client.service(Bulk))
            await returns_only_what_can_be_sent(client.service(Bulk))
            await sends_what_is_as_large_as_allowed(client.service(Bulk))


async def test_a_result_that_is_too_large_for_a_member_is_not_transient_either() -> None:
    async with LocalCluster(app, shards=2, strict=False) as cluster:
        await returns_only_what_can_be_sent(cluster.service(Bulk))


async def test_json_has_the_same_limits() -> None:
    async with app.local(strict=False) as host, serving(host) as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.execute("Bulk.put", "a", "x" * FULL)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert field_of(caught.value) == "arguments"
        assert "Bulk.put" in (caught.value.details() or "")
        for call in (served.call("Bulk.get", MAX_RESULT_BYTES), served.execute("Bulk.make", MAX_RESULT_BYTES)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "the result takes" in (caught.value.details() or "")


@pytest.mark.parametrize("number", [10**400, -(2**63) - 1, 2**64])
async def test_whole_numbers_that_cannot_travel_name_the_parameter(number: int) -> None:
    async with app.local() as host, serving(host) as served:
        with pytest.raises(InvalidArgument, match=r"Bulk\.get: size: ") as caught:
            await host.service(Bulk).get(number)
        assert caught.value.field == "size"
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await served.call("Bulk.get", number)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert field_of(refused.value) in ("size", "arguments")
