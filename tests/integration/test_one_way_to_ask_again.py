"""One table of faults, and one expectation, for all who ask again: drivers, typed clients, clients by name."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fusion_cluster.client import connect
from fusion_cluster.commands import Turns
from fusion_cluster.errors import CommandNotRecorded, CommandOutcomeUnknown, FusionError, ShardUnavailable
from fusion_cluster.runtime.deadline import deadline_at
from fusion_router.local_cluster import LocalShard
from tests.apps.tills import Base, Gates, Jars, Tills, fresh_gates, jars_app, tills_app
from tests.clients import Front, fronted

Fault = Callable[[Front, Gates], Awaitable[None]]

CALLERS = ("driver", "session", "rpc")


@pytest.fixture
def gates() -> Gates:
    return fresh_gates()


def owner(front: Front) -> LocalShard:
    name, key = ("Tills.pay_in", "bar") if "Tills" in front.cluster.app.services else ("Jars.drop", 5)
    return front.cluster.owner(name, key, *((5,) if key == "bar" else ()))


async def run(front: Front, caller: str, timeout_s: float) -> int:
    """Pay in, or drop, 5."""
    is_till = "Tills" in front.cluster.app.services
    if caller == "driver":
        with deadline_at(time.monotonic() + timeout_s):
            if is_till:
                return await front.cluster.service(Tills).pay_in("bar", 5)
            return await front.cluster.service(Jars).drop(5)
    async with connect(front.address, timeout_s=timeout_s) as client:
        if caller == "session":
            return await (client.service(Tills).pay_in("bar", 5) if is_till else client.service(Jars).drop(5))
        result: int = await (client.execute("Tills.pay_in", "bar", 5) if is_till else client.execute("Jars.drop", 5))
        return result


# -- faults: each does what it does while the command is under way, or before ------------------------------------------
async def lost_shard(front: Front, gates: Gates) -> None:
    """The answer of what is committed is lost with its shard, which comes back."""
    await gates.reached.wait()
    shard_id = owner(front).address.shard_id
    await front.cluster.kill_shard(shard_id)
    gates.opened.set()
    await front.cluster.start_shard(shard_id)


async def orderly_stop(front: Front, gates: Gates) -> None:
    """The owner cuts off what runs at the end of its grace, and says so."""
    await gates.reached.wait()
    owner(front).serving.close()
    gates.opened.set()


async def lost_link(front: Front, gates: Gates) -> None:
    """The connection is lost and made again; the owner goes on."""
    await gates.reached.wait()
    front.cluster.cut_links(owner(front).address.shard_id)
    gates.opened.set()


async def away_at_first(front: Front, gates: Gates) -> None:
    """The owner comes a little later than the command."""
    gates.opened.set()
    await asyncio.sleep(0.3)
    await front.cluster.start_shard(min(set(range(2)) - set(front.cluster.shards)))


async def full_at_first(front: Front, gates: Gates) -> None:
    """The owner has no room, and says when it may have."""
    gates.opened.set()
    host = owner(front).host
    turns, host.turns = host.turns, Turns(max_users=0)
    await asyncio.sleep(0.2)
    host.turns = turns


async def lost_for_good(front: Front, gates: Gates) -> None:
    await gates.reached.wait()
    await front.cluster.kill_shard(owner(front).address.shard_id)


async def never_there(front: Front, gates: Gates) -> None:
    """Nothing more: see `kills_first`."""


kills_first = (away_at_first, never_there)


async def error_of(running: Awaitable[int]) -> FusionError:
    with pytest.raises(FusionError) as raised:
        await running
    return raised.value


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize(
    ("fault", "outcome", "runs", "timeout_s"),
    [
        (lost_shard, 5, 1, 20.0),
        (orderly_stop, 5, 1, 20.0),
        (lost_link, 5, 1, 20.0),
        (away_at_first, 5, 1, 20.0),
        (full_at_first, 5, 1, 20.0),
        (lost_for_good, CommandOutcomeUnknown, 1, 3.0),
        (never_there, ShardUnavailable, 0, 1.5),
    ],
)
async def test_a_command_that_is_recorded(
    tmp_path: Path,
    gates: Gates,
    caller: str,
    fault: Fault,
    outcome: int | type[FusionError],
    runs: int,
    timeout_s: float,
) -> None:
    app = tills_app(f"sqlite:///{tmp_path}/tills.db")
    assert app.database is not None
    await app.database.create_tables(Base.metadata)
    async with fronted(app) as front:
        if fault in kills_first:
            await front.cluster.kill_shard(owner(front).address.shard_id)
        running = asyncio.create_task(run(front, caller, timeout_s))
        await fault(front, gates)
        if isinstance(outcome, int):
            assert await running == outcome
        else:
            error = await error_of(running)
            while fault is never_there and type(error) is not outcome and timeout_s < 20:
                timeout_s *= 2  # on a busy machine the caller's time is up before the gateway has said why
                error = await error_of(asyncio.create_task(run(front, caller, timeout_s)))
            assert type(error) is outcome
        assert gates.runs == runs


@pytest.mark.parametrize("caller", CALLERS)
async def test_a_command_that_nobody_records(gates: Gates, caller: str) -> None:
    async with fronted(jars_app()) as front:
        running = asyncio.create_task(run(front, caller, 20.0))
        await orderly_stop(front, gates)
        with pytest.raises(CommandNotRecorded):
            await running
        assert gates.runs == 1
