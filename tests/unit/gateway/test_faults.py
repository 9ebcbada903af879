"""A fault of ours is told to a client by an id that the log has too, whichever way it asks; user errors as they are."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable

import pytest

from fusion_cluster import App, ComputeService, command, compute_method
from fusion_cluster.client import Client, connect
from fusion_cluster.errors import InvariantViolation, RemoteError
from tests.clients import fronted
from tests.faults.odd_errors import Unspeakable

FAULTS: dict[str, Callable[[], Exception]] = {
    "ours": lambda: InvariantViolation("secret"),
    "users": lambda: LookupError("not there"),
    "odd": Unspeakable,
}


class Faulty(ComputeService):
    @compute_method
    async def read(self, kind: str) -> int:
        raise FAULTS[kind]()

    @command
    async def change(self, kind: str) -> int:
        raise FAULTS[kind]()


app = App("faulty", [Faulty])


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with fronted(app, shards=1) as front, connect(front.address) as client:
        yield client


@pytest.mark.parametrize("method", ["read", "change"])
async def test_a_client_is_told_the_id_of_a_fault_and_user_errors_as_they_are(
    method: str, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    call = getattr(client.service(Faulty), method)
    with pytest.raises(RemoteError) as fault:
        await call("ours")
    told = re.search(r"internal error (\w+)", str(fault.value))
    assert told is not None
    assert "secret" not in str(fault.value)
    assert any(told.group(1) in record.message and record.exc_info for record in caplog.records)
    logged = len(caplog.records)
    with pytest.raises(LookupError, match="not there") as users:
        await call("users")
    assert not getattr(users.value, "__notes__", [])
    with pytest.raises(RemoteError, match="Unspeakable"):
        await call("odd")
    assert len(caplog.records) == logged
