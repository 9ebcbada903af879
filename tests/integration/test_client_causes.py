"""A client outside the cluster is told why a replica of its own has gone; the rest is known inside."""

from __future__ import annotations

import asyncio

from fusion_cluster.client import connect
from fusion_cluster.graph import Happening
from tests.apps.shelf import Shelf, app, fresh_stock
from tests.clients import fronted


async def test_a_replica_says_that_the_gateway_has_invalidated_it_or_that_it_was_lost() -> None:
    fresh_stock()
    async with fronted(app) as front, connect(front.address, timeout_s=5.0) as client:
        gateway = front.host.peer_id
        shelf = client.service(Shelf)
        replica = shelf.count("nut")
        await replica
        await shelf.put("nut", 3)
        await asyncio.wait_for(replica.when_invalidated(), 5.0)
        explanation = shelf.count.why("nut")
        assert explanation is not None
        assert str(explanation.origin) == f"its owner, the gateway ({gateway}), has invalidated it: ask there"
        inside = front.host.why("Shelf.count", "nut")
        assert inside is not None
        assert inside.origin is not None
        assert inside.origin.kind == "remote", "the gateway has a replica, too"
        await shelf.count("nut")
        assert [entry.happening for entry in shelf.count.story("nut")] == [
            Happening.COMPUTED,
            Happening.INVALIDATED,
            Happening.COMPUTED,
        ]
        replica = shelf.count("nut")
        await front.stop()
        await asyncio.wait_for(replica.when_invalidated(), 5.0)
        lost = shelf.count.why("nut")
        assert lost is not None
        assert str(lost.origin) == f"the connection to its owner, the gateway ({gateway}), was lost"
