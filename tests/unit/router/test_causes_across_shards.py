"""A.21 across processes: a replica says who owns it, and why it cannot be used; an owner, who has told it what for."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator, Callable

import pytest

from fusion_cluster import App, ComputeService, command, compute_method
from fusion_cluster.graph import Cause, Explanation
from fusion_cluster.protocol.slot_map import SlotMap
from fusion_cluster.testing import LocalCluster
from fusion_cluster.v1.session_pb2 import Invalidate, KeyReference
from tests.waiting import until


class Products(ComputeService):
    prices: dict[int, int]

    @compute_method
    async def get(self, product_id: int) -> int:
        return self.prices.get(product_id, 0)

    @command
    async def set_price(self, product_id: int, price: int) -> None:
        self.prices[product_id] = price
        self.get.invalidate(product_id)

    @command
    async def clear(self, shelf: str, product_ids: list[int]) -> None:
        """Runs where `shelf` is owned, and changes what others own."""
        for product_id in product_ids:
            self.prices.pop(product_id, None)
            self.get.invalidate(product_id)

    @command(barrier=False)
    async def clear_quickly(self, shelf: str, product_id: int) -> None:
        self.prices.pop(product_id, None)
        self.get.invalidate(product_id)


class Carts(ComputeService):
    products: Products

    @compute_method
    async def total(self, cart_id: str) -> int:
        return await self.products.get(3)


app = App("shop", [Products, Carts])


@pytest.fixture
async def cluster() -> AsyncIterator[LocalCluster]:
    Products.prices = {3: 10}
    async with LocalCluster(app, shards=2, read_lease_s=0.4) as cluster:
        yield cluster


def cart_on_another_shard(cluster: LocalCluster) -> str:
    """A cart whose total depends on a product that another shard owns."""
    owner = cluster.owner("Products.get", 3)
    return next(
        name for name in (f"c{number}" for number in range(1000)) if cluster.owner("Carts.total", name) is not owner
    )


def shelf_on(cluster: LocalCluster, is_owner: Callable[[object], bool]) -> str:
    return next(
        name for name in (f"s{number}" for number in range(1000)) if is_owner(cluster.owner("Products.clear", name, []))
    )


def hops(explanation: Explanation | None) -> list[str]:
    assert explanation is not None
    return [str(hop) for hop in explanation.hops]


def origin_of(explanation: Explanation | None) -> Cause:
    assert explanation is not None
    assert explanation.origin is not None
    return explanation.origin


async def test_the_owner_knows_the_command_and_every_replica_knows_the_owner(cluster: LocalCluster) -> None:
    cart = cart_on_another_shard(cluster)
    dependent, owner = cluster.owner("Carts.total", cart), cluster.owner("Products.get", 3)
    assert await cluster.service(Carts).total(cart) == 10
    await cluster.service(Products).set_price(3, 12)

    at_owner = origin_of(owner.host.why("Products.get", 3))
    assert at_owner.command is not None
    assert str(at_owner.command).startswith("command Products.set_price(3, 12) (id ")
    assert at_owner.place is not None
    assert at_owner.place.function == "Products.set_price"

    at_dependent = dependent.host.why("Carts.total", cart)
    assert hops(at_dependent) == [f"Carts.total('{cart}')", "Products.get(3)"]
    assert origin_of(at_dependent).kind == "remote"
    number = owner.address.shard_id
    assert str(origin_of(at_dependent)) == (
        f"its owner, shard {number} ({owner.host.peer_id}), has invalidated it: ask there"
    )

    at_driver = cluster.service(Carts).total.why(cart)
    assert hops(at_driver) == [f"Carts.total('{cart}')"]
    assert f"shard {dependent.address.shard_id} ({dependent.host.peer_id})" in str(origin_of(at_driver))


@pytest.mark.parametrize("barrier", [True, False])
async def test_an_owner_that_is_told_by_another_shard_knows_what_for(cluster: LocalCluster, barrier: bool) -> None:
    owner = cluster.owner("Products.get", 3)
    shelf = shelf_on(cluster, lambda shard: shard is not owner)
    sender = cluster.owner("Products.clear", shelf, [])
    assert await cluster.service(Products).get(3) == 10
    node = owner.host.service(Products).get(3)
    products = cluster.service(Products)
    if barrier:
        await products.clear(shelf, [1, 2, 3])
        call = f"command Products.clear('{shelf}', [1, 2, 3]) (id "
    else:
        await products.clear_quickly(shelf, 3)
        call = f"command Products.clear_quickly('{shelf}', 3) (id "
    origin = origin_of(owner.host.graph.why(node))
    assert origin.kind == "remote"
    text = str(origin)
    assert text.startswith(call)
    assert ") at tests/unit/router/test_causes_across_shards.py:" in text
    assert text.endswith(f", as told by {sender.host.peer_id}")


async def test_an_invalidation_by_a_driver_names_the_line_at_the_owner(cluster: LocalCluster) -> None:
    owner = cluster.owner("Products.get", 3)
    products = cluster.service(Products)
    assert await products.get(3) == 10
    replica, owned = products.get(3), owner.host.service(Products).get(3)
    await products.get.invalidate(3)
    assert origin_of(cluster.host.graph.why(replica)).kind == "call"
    text = str(origin_of(owner.host.graph.why(owned)))
    assert text.startswith("a call of invalidate() at tests/unit/router/test_causes_across_shards.py:")
    assert text.endswith(" in test_an_invalidation_by_a_driver_names_the_line_at_the_owner, as told by driver")


async def test_a_lost_connection_is_the_origin_of_what_came_over_it(cluster: LocalCluster) -> None:
    owner = cluster.owner("Products.get", 3)
    replica = cluster.service(Products).get(3)
    await replica
    cluster.cut_links(owner.address.shard_id)
    await asyncio.sleep(0)
    assert not replica.is_consistent  # nobody knows, while there is no connection
    origin = origin_of(cluster.host.graph.why(replica))
    assert origin.kind == "disconnected"
    assert str(origin) == (
        f"the connection to its owner, shard {owner.address.shard_id} ({owner.host.peer_id}), was lost"
    )


async def test_a_read_lease_that_runs_out_is_the_origin_of_what_lived_by_it(cluster: LocalCluster) -> None:
    owner = cluster.owner("Products.get", 3)
    replica = cluster.service(Products).get(3)
    await replica
    cluster.hold_links(owner.address.shard_id)
    await asyncio.wait_for(replica.when_invalidated(), 5.0)
    origin = origin_of(cluster.host.graph.why(replica))
    assert origin.kind == "lease"
    assert "was not heard of for a read lease" in str(origin)
    cluster.release_links(owner.address.shard_id)


async def test_a_slot_that_moves_is_an_origin(cluster: LocalCluster) -> None:
    replica = cluster.service(Products).get(3)
    await replica
    old = cluster.host.slot_map
    owners = array("H", [1 - shard_id for shard_id in old.owners])
    cluster.host.set_slot_map(SlotMap(old.version + 1, owners, old.shards))
    assert not replica.is_consistent
    assert str(origin_of(cluster.host.graph.why(replica))) == "another shard owns its key"
    cluster.host.set_slot_map(SlotMap(old.version + 2, old.owners, old.shards))


async def test_a_shard_that_is_gone_is_an_origin(cluster: LocalCluster) -> None:
    owner = cluster.owner("Products.get", 3)
    replica = cluster.service(Products).get(3)
    await replica
    await cluster.kill_shard(owner.address.shard_id)
    await until(lambda: not replica.is_consistent)
    assert origin_of(cluster.host.graph.why(replica)).kind == "disconnected"
    await cluster.start_shard(owner.address.shard_id)


def test_what_a_stranger_says_of_origins_is_taken_with_care() -> None:
    async def script() -> None:
        async with LocalCluster(app, shards=1) as cluster:
            shard = cluster.shards[0].host
            arguments = app.methods["Products.get"].arguments.encode((3,))
            for origin, origins, says in (
                (0, [], "somebody has asked for it"),
                (7, ["a"], "somebody has asked for it"),
                (1, [""], "somebody has asked for it"),
                (2, ["a", "b" * 10_000], f"{'b' * 400}, as told by somebody"),
            ):
                node = shard.service(Products).get(3)
                await node
                key = KeyReference(method="Products.get", arguments=arguments, origin=origin)
                shard.invalidations.apply_request(Invalidate(keys=[key], origins=origins), "somebody")
                assert str(origin_of(shard.graph.why(node))) == says

    Products.prices = {}
    asyncio.run(script())


async def test_every_member_of_a_local_cluster_remembers_as_much_as_it_is_told_to() -> None:
    Products.prices = {3: 10}
    async with LocalCluster(app, shards=1, history=0) as cluster:
        products = cluster.service(Products)
        await products.get(3)
        await products.set_price(3, 1)
        assert products.get.story(3) == cluster.shards[0].host.story("Products.get", 3) == []
