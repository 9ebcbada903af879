"""One Ray cluster for the whole test session, started when the first test needs it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """The address of a small Ray cluster on loopback."""
    import ray

    from fusion_shards.joining import start_ray, stop_ray

    start_ray(address="local", cpus=16)
    address: str = ray.get_runtime_context().gcs_address
    yield address
    stop_ray()
