"""The built-in services as an app, in one process and in three shards.

`pytest_plugins = ["tests.apps.built_in_services"]` gives the fixtures.

A module that says so imports nothing from here: pytest wants to be the first.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from fusion_cluster.host import Host
from fusion_cluster.testing import LocalCluster
from tests.apps.panel import new_app

pytest_plugins = ["tests.databases", "tests.moving_time"]


@pytest.fixture(params=["local", "three shards"])
async def host(request: pytest.FixtureRequest, database_url: str, moving_time: Any) -> AsyncIterator[Host]:
    """The app, hosted; its graphs are checked at the end."""
    app = new_app(database_url)
    if request.param == "local":
        async with app.local(runtime=moving_time.runtime) as host:
            yield host
            host.graph.validate()
    else:
        async with LocalCluster(app, shards=3, runtime=moving_time.runtime) as cluster:
            yield cluster.host
