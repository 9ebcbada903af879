"""Who leaves in good order is waited for by no command; who does not is waited for, for one read lease."""

from __future__ import annotations

import asyncio

from fusion_cluster.client import connect
from tests.apps.sheet import Cells, app, fresh_store
from tests.clients import fronted

READ_LEASE_S = 3.0


async def test_a_client_that_has_closed_delays_no_command() -> None:
    fresh_store()
    async with fronted(app, read_lease_s=READ_LEASE_S) as front:
        async with connect(front.address) as client:
            assert await client.service(Cells).get(3) == 0
        async with asyncio.timeout(READ_LEASE_S / 2):
            await front.host.service(Cells).put(3, 1)


async def test_a_driver_that_has_closed_delays_no_command() -> None:
    fresh_store()
    async with fronted(app, read_lease_s=READ_LEASE_S) as front:
        driver = front.cluster.new_host("another driver")
        assert await driver.service(Cells).get(3) == 0
        await driver.links.close()
        async with asyncio.timeout(READ_LEASE_S / 2):
            await front.host.service(Cells).put(3, 1)
