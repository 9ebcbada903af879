"""In a cluster: middleware is around bodies where they run, on the owner of the key, and nowhere else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fusion_cluster import App, Call, Next, PermissionDenied
from fusion_cluster.middleware import Authorization, Timing, acting_as, anybody, current_principal, signed_in
from fusion_cluster.testing import LocalCluster
from tests.unit.middleware.bakery import Bakery, Recorder


def app_with(*middleware: Any) -> App:
    return App("bakery", services=[Bakery], middleware=middleware)


async def test_a_body_passes_on_its_owner_and_reads_of_replicas_do_not() -> None:
    recorder = Recorder()
    async with LocalCluster(app_with(recorder), shards=2) as cluster:
        bakery = cluster.service(Bakery)
        other = cluster.new_host("driver-2").service(Bakery)
        assert await bakery.price("roll") == await other.price("roll") == await bakery.price("roll") == 2
        assert recorder.names == ["Bakery.price('roll')"]
        owner = cluster.owner("Bakery.price", "roll").host
        assert recorder.calls[0].service is owner.service(Bakery)
        assert await bakery.set_price("roll", 3) == 2
        assert recorder.calls[1].service is cluster.owner("Bakery.set_price", "roll", 3).host.service(Bakery)
        assert await other.price("roll") == 3


async def test_what_a_middleware_returns_or_raises_is_what_other_processes_are_given() -> None:
    async def strange(call: Call, next: Next) -> Any:
        if call.argument("product") == "cake":
            raise PermissionDenied("no cake today")
        return 10 * await next(call)

    async with LocalCluster(app_with(strange), shards=2) as cluster:
        bakery = cluster.service(Bakery)
        assert await bakery.price("roll") == 20
        with pytest.raises(PermissionDenied, match="no cake today"):
            await bakery.price("cake")
        with pytest.raises(PermissionDenied, match="no cake today"):
            await bakery.order("cake")


async def test_a_principal_travels_with_its_commands_and_is_never_somebody_elses() -> None:
    """The link is dialled on behalf of Ann; of what comes over it only her commands are hers."""
    seen: list[Any] = []

    async def watching(call: Call, next: Next) -> Any:
        seen.append((call.kind, current_principal.get()))
        return await next(call)

    rules = Authorization({"Bakery.order": signed_in, "*": anybody})
    async with LocalCluster(app_with(watching, rules), shards=2) as cluster:
        bakery = cluster.service(Bakery)
        with acting_as("Ann"):
            assert await bakery.price("roll") == 2
            await bakery.set_price("roll", 3)
            await bakery.order("roll")
        with pytest.raises(PermissionDenied):
            await bakery.order("roll")
        await asyncio.gather(bakery.price("roll"), bakery.price("cake"))
        await bakery.set_price("cake", 3)
    assert [principal for kind, principal in seen if kind == "compute"] == [None, None, None]
    assert [principal for kind, principal in seen if kind == "command"] == ["Ann", "Ann", None, None]


async def test_shards_of_one_process_share_the_apps_middleware() -> None:
    timing = Timing()
    async with LocalCluster(app_with(timing), shards=3) as cluster:
        bakery = cluster.service(Bakery)
        for number in range(20):
            assert await bakery.heavy(number) == number * number
    assert timing.methods["Bakery.heavy"].count == 20
