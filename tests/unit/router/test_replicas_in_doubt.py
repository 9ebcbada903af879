"""Replicas whose link is down: nobody is served by them, and a reconnect keeps those that nobody has read meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from fusion_cluster import App, ComputeService, command, compute_method
from fusion_cluster.link.peer import Peer
from fusion_cluster.testing import LocalCluster
from tests.waiting import until

PRICES: dict[int, int] = {}


class Prices(ComputeService):
    def __init__(self) -> None:
        self.computed: list[int] = []

    @compute_method
    async def get(self, number: int) -> int:
        self.computed.append(number)
        return PRICES.get(number, 0)

    @compute_method
    async def label(self, text: str, number: int) -> str:
        return f"{text}{await self.get(number)}"

    @command
    async def put(self, number: int, price: int) -> None:
        PRICES[number] = price
        self.get.invalidate(number)


@pytest.fixture
async def cluster() -> AsyncIterator[LocalCluster]:
    PRICES.clear()
    async with LocalCluster(App("prices", [Prices]), shards=2) as cluster:
        yield cluster


def link_to_owner(cluster: LocalCluster, number: int) -> Peer:
    peer = cluster.host.links.peer(cluster.owner("Prices.get", number).address.shard_id)
    assert peer is not None
    return peer


def computed(cluster: LocalCluster, number: int) -> int:
    """How often the owner has computed a price."""
    return cluster.owner("Prices.get", number).host.service(Prices).computed.count(number)


async def lose_link(cluster: LocalCluster, number: int) -> Peer:
    """Lose the driver's link to the owner of a price; return it before it is back."""
    peer = link_to_owner(cluster, number)
    cluster.cut_links(cluster.owner("Prices.get", number).address.shard_id)
    await asyncio.sleep(0)
    assert peer.is_in_doubt
    return peer


async def found_out(peer: Peer) -> None:
    await until(lambda: not peer.is_in_doubt)


async def test_a_reconnect_keeps_what_was_read_and_computed_from_it(cluster: LocalCluster) -> None:
    prices = cluster.service(Prices)
    assert await prices.get(3) == 0
    price = prices.get(3)
    peer = await lose_link(cluster, 3)
    await found_out(peer)
    assert peer.is_connected
    assert price.is_consistent
    assert computed(cluster, 3) == 1
    await prices.put(3, 5)
    assert not price.is_consistent
    assert await prices.get(3) == 5


@pytest.mark.parametrize("is_read", [False, True])
async def test_what_was_computed_from_a_replica_is_in_doubt_with_it(cluster: LocalCluster, is_read: bool) -> None:
    owner = cluster.owner("Prices.get", 3)
    text = next(text for text in "abcdefgh" if cluster.owner("Prices.label", text, 3) is not owner)
    shard = cluster.owner("Prices.label", text, 3).host
    prices = shard.service(Prices)
    await prices.label(text, 3)
    label, replica = prices.label(text, 3), prices.get(3)
    owner_id = owner.address.shard_id
    cluster.cut_links(owner_id)
    await asyncio.sleep(0)
    peer = shard.links.peer(owner_id)
    assert peer is not None
    assert peer.is_in_doubt
    if is_read:
        assert prices.label(text, 3) is not label
        assert await prices.label(text, 3) == f"{text}0"
    await found_out(peer)
    assert label.is_consistent == replica.is_consistent == (not is_read)
    assert computed(cluster, 3) == 1


async def test_nothing_in_doubt_is_served_and_a_read_waits_for_the_link(cluster: LocalCluster) -> None:
    prices = cluster.service(Prices)
    numbers = [number for number in range(50) if link_to_owner(cluster, number) is link_to_owner(cluster, 3)][:5]
    for number in numbers:
        await prices.get(number)
    read, other = prices.get(numbers[0]), prices.get(numbers[1])
    peer = await lose_link(cluster, 3)
    reading = asyncio.ensure_future(prices.get(numbers[0]).update())
    await asyncio.sleep(0)
    assert peer.is_in_doubt
    assert not reading.done()
    again = await reading
    assert peer.is_connected
    assert again is not read
    assert computed(cluster, numbers[0]) == 1  # the owner has it
    await found_out(peer)
    assert other.is_consistent
    assert not read.is_consistent


async def test_a_look_at_what_is_in_doubt_finds_nothing(cluster: LocalCluster) -> None:
    prices = cluster.service(Prices)
    for look in (
        lambda: prices.get.peek(3),
        lambda: prices.get(3).is_consistent,
        lambda: prices.get(number=3).has_output,
    ):
        await prices.get(3)
        assert look()
        peer = await lose_link(cluster, 3)
        assert not look()
        await found_out(peer)


async def test_what_rests_on_other_owners_is_served_on(cluster: LocalCluster) -> None:
    prices = cluster.service(Prices)
    other = next(number for number in range(50) if link_to_owner(cluster, number) is not link_to_owner(cluster, 3))
    await prices.get(3)
    await prices.get(other)
    held = prices.get(other)
    await lose_link(cluster, 3)
    assert prices.get(other) is held
    assert held.is_consistent


async def test_a_change_during_the_outage_is_seen_after_it(cluster: LocalCluster) -> None:
    prices = cluster.service(Prices)
    await prices.get(3)
    held = prices.get(3)
    peer = await lose_link(cluster, 3)
    owner = cluster.owner("Prices.get", 3).host.service(Prices)
    PRICES[3] = 7
    owner.get.invalidate(3)
    await found_out(peer)
    assert not held.is_consistent
    assert await prices.get(3) == 7
