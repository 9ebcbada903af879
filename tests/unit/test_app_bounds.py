"""The bounds of a host, as an app's users set them."""

from __future__ import annotations

import pytest

from fusion_cluster import App, ComputeService, UsageError, compute_method
from fusion_cluster.testing import LocalCluster


class Letters(ComputeService):
    @compute_method
    async def repeated(self, letter: str, times: int) -> str:
        return letter * times


async def test_a_host_keeps_its_bound_in_bytes_by_the_apps_estimate() -> None:
    app = App("letters", [Letters], size_of=lambda value: 1000 * len(value))
    async with app.local(max_bytes=20_000) as host:
        letters = host.service(Letters)
        for times in range(1, 12):
            assert await letters.repeated("a", times) == "a" * times
            used = host.graph.stats.bytes
            assert used is not None
            assert used <= 20_000
        assert host.graph.stats.evictions
        assert letters.repeated.peek("a", 11) is not None


async def test_without_a_bound_in_bytes_nothing_is_estimated() -> None:
    def refuse(_: object) -> int:
        raise AssertionError("estimated")

    async with App("letters", [Letters], size_of=refuse).local() as host:
        assert await host.service(Letters).repeated("a", 3) == "aaa"
        assert host.graph.stats.bytes is None


async def test_every_member_of_a_cluster_keeps_the_bound() -> None:
    app = App("letters", [Letters], size_of=lambda value: 1000 * len(value))
    async with LocalCluster(app, shards=2, max_bytes=20_000) as cluster:
        letters = cluster.service(Letters)
        for times in range(1, 12):
            assert await letters.repeated("ab"[times % 2], times) == "ab"[times % 2] * times
        for host in (cluster.host, *(shard.host for shard in cluster.shards.values())):
            used = host.graph.stats.bytes
            assert used is not None
            assert used <= 20_000


async def test_a_bound_that_holds_no_node_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        async with App("letters", [Letters]).local(max_bytes=10):
            pass
    assert caught.value.field == "max_bytes"
