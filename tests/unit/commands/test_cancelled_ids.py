"""B.6 beside cancellation: a command cancelled at each of its awaits in turn, then asked for again under its id."""

from __future__ import annotations

import asyncio

import pytest

from fusion_cluster.commands import CommandResult, pipeline
from fusion_cluster.errors import CommandResultLost
from tests.apps.counters import Counters, counters_hosts, counts, run
from tests.faults.stepped import cancelled_at
from tests.log_entries import logged

pytest_plugins = ["tests.databases"]


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("method", ["add", "bump", "bump_and_record", "think", "insert"])
async def test_cancelled_at_any_await_and_asked_for_again_it_is_done_once(
    database_url: str, method: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "RESULT_PATIENCE_S", 0.02)
    async with counters_hosts(database_url) as hosts:
        first, second = hosts
        database, outcomes = first.service(Counters).database, set[str]()
        for suspension in range(1000):
            name = command_id = f"{suspension}"
            shown = [host.service(Counters).count(name) for host in hosts]
            for node in shown:
                await node
            is_cancelled = await cancelled_at(run(first, method, name, command_id=command_id), suspension, times=times)
            was_logged = command_id in await logged(database)
            retried_on = (first, second)[suspension % 2]
            try:
                again = await asyncio.wait_for(run(retried_on, method, name, command_id=command_id), 10)
            except CommandResultLost:
                assert method in ("bump", "insert"), "the others have their results recorded with the commit"
                outcomes.add("lost")
            else:
                assert again == CommandResult(_expected(method, again.value, name), is_replayed=was_logged)
                outcomes.add("replayed" if again.is_replayed else "run")
            expected = 0 if method == "think" else 1
            assert (await counts(database)).get(name, 0) == expected
            assert await retried_on.service(Counters).count(name) == expected
            if not is_cancelled:
                break
        assert {"run", "replayed"} <= outcomes
        assert not len(first.turns)
        assert not len(second.turns)
        for host in hosts:
            host.graph.validate()


def _expected(method: str, value: object, name: str) -> object:
    match method:
        case "add":
            return None
        case "insert":
            return f"inserted {name}"
        case "think":
            assert isinstance(value, str)
            assert value.startswith(name)
            return value
        case _:
            return 1
