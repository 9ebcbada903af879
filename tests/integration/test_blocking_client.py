"""The client for code without an event loop: typed services with replicas, and methods by name.

The gateway has a process of its own: gRPC for Python copes with one event loop in a process, and the client has it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import assert_type

import pytest

from fusion_cluster import InvalidArgument, ShardUnavailable, UnknownMethod, value_of
from fusion_cluster.client import BlockingClient, connect_blocking
from tests.apps.shelf import Shelf

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 20.0


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    command = [sys.executable, "-W", "error", "-m", "tests.processes.shelf_process"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield process.stdout.readline().strip()
        process.stdin.close()
        assert process.wait(TIMEOUT_S) == 0


@pytest.fixture
def client(address: str) -> Iterator[BlockingClient]:
    with connect_blocking(address, timeout_s=TIMEOUT_S) as client:
        yield client


def test_typed_services_block_and_see_each_change(client: BlockingClient) -> None:
    shelf = client.service(Shelf)
    value_of(shelf.put("nut", 3))
    assert_type(value_of(shelf.count("nut")), int)
    assert value_of(shelf.count("nut")) == 3
    value_of(shelf.put("nut", 4))
    assert value_of(shelf.count("nut")) == 4


def test_a_repeated_read_is_answered_by_the_replica(client: BlockingClient) -> None:
    shelf = client.service(Shelf)
    value_of(shelf.count("bolt"))
    (first, second) = (shelf.count.peek("bolt"), shelf.count.peek("bolt"))
    assert first is not None
    assert second is not None
    assert first.version == second.version


def test_methods_by_name_block_too(client: BlockingClient) -> None:
    before = client.execute("Shelf.put", "nut", 3, command_id="one")
    assert before != 3
    assert client.execute("Shelf.put", "nut", 3, command_id="one") == before  # not run again, else it were 3
    assert client.call("Shelf.count", "nut") == 3
    assert [service.name for service in client.describe("Shelf").services] == ["Shelf"]
    with pytest.raises(UnknownMethod):
        client.call("Shelf.nowhere")
    with pytest.raises(InvalidArgument):
        client.call("Shelf.count")


def test_watching_blocks_for_each_change(client: BlockingClient) -> None:
    seen = []
    for update in client.watch("Shelf.count", "washer"):
        seen.append(update.value)
        if len(seen) == 3:
            break
        client.execute("Shelf.put", "washer", 10 * len(seen))
    assert seen == [0, 10, 20]


def test_changes_of_a_replica_block_for_each_change(client: BlockingClient) -> None:
    shelf = client.service(Shelf)
    with client.changes(shelf.count, "pin") as changes:
        assert next(changes).value == 0
        client.execute("Shelf.put", "pin", 7)
        assert changes.next(TIMEOUT_S).value == 7


def test_many_threads_share_one_client(client: BlockingClient) -> None:
    shelf = client.service(Shelf)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: value_of(shelf.put(f"n{number}", number)), range(8)))
        assert set(pool.map(lambda number: value_of(shelf.count(f"n{number % 8}")), range(80))) == set(range(8))


def test_a_gateway_that_is_not_there_is_told_in_time() -> None:
    with connect_blocking("127.0.0.1:1", timeout_s=0.3) as client, pytest.raises(ShardUnavailable):
        value_of(client.service(Shelf).count("nut"))
