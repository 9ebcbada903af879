"""The loop around the coordination core: the order of events, timers, answers, and what callers wait for."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine

import pytest

from fusion_cluster.errors import UsageError
from fusion_cluster.protocol.coordination import (
    START_ATTEMPTS,
    WHOLE_MAP_TIMEOUT_S,
    Coordination,
    Died,
    MemberId,
    Served,
    StartFailed,
    Stopped,
)
from fusion_cluster.protocol.slot_map import ShardAddress, SlotMap
from fusion_cluster.testing import run_in_virtual_time
from fusion_router.coordinating import CoordinationLoop, Report

FIRST, SECOND = MemberId("shard", 0), MemberId("shard", 1)

Test = Callable[[], Coroutine[object, object, None]]


def in_virtual_time(test: Test) -> Callable[[], None]:
    @functools.wraps(test)
    def run() -> None:
        run_in_virtual_time(test())

    del run.__wrapped__
    return run


class Plane:
    """A control plane that notes what it is told; some members serve, or die, in the moment they are started."""

    def __init__(self, *, serves: bool = False, dies: bool = False) -> None:
        self.said: list[str] = []
        self.reports: dict[MemberId, Report] = {}
        self._serves = serves
        self._dies = dies
        self.loop: CoordinationLoop

    def start(self, member: MemberId, report: Report) -> None:
        self.said.append(f"start {member}")
        self.reports[member] = report
        self.loop.ask_epoch(member, lambda epoch: self._on_epoch(member, epoch))

    def _on_epoch(self, member: MemberId, epoch: int) -> None:
        self.said.append(f"epoch {epoch} for {member}")
        if self._serves:
            self.reports[member](served(member, epoch))
        if self._dies:
            self.reports[member](Died(member))

    def kill(self, member: MemberId) -> None:
        self.said.append(f"kill {member}")

    def stop(self, member: MemberId, report: Report) -> None:
        self.said.append(f"stop {member}")
        report(Stopped(member))


def served(member: MemberId, epoch: int) -> Served:
    return Served(member, epoch, ShardAddress(member.number, "machine", 4000 + epoch, epoch))


def begun(plane: Plane, *, shards: int = 2, gateways: int = 0, succeeds: bool = False) -> CoordinationLoop:
    plane.loop = CoordinationLoop(Coordination(shards=shards, gateways=gateways, succeeds=succeeds), plane)
    plane.loop.begin()
    return plane.loop


@in_virtual_time
async def test_what_a_plane_reports_while_it_starts_a_member_is_taken_after_the_other_starts() -> None:
    plane = Plane(serves=True)
    loop = begun(plane)
    assert plane.said == ["start shard 0", "start shard 1", "epoch 1 for shard 0", "epoch 1 for shard 1"]
    await loop.wait_until_launched()
    assert set(loop.slot_map.shards) == {0, 1}
    loop.close()


@in_virtual_time
async def test_who_follows_is_given_each_map_until_it_has_enough() -> None:
    plane = Plane()
    loop = begun(plane)
    seen: list[set[int]] = []
    few: list[SlotMap] = []
    plane.reports[FIRST](served(FIRST, 1))
    plane.reports[SECOND](served(SECOND, 1))

    def on_map(slot_map: SlotMap) -> bool:
        seen.append(set(slot_map.shards))
        return True

    def on_first_map(slot_map: SlotMap) -> bool:
        few.append(slot_map)
        return False

    loop.follow(on_map)
    loop.follow(on_first_map)
    plane.reports[FIRST](Died(FIRST, 1))
    plane.reports[FIRST](served(FIRST, 2))
    assert seen == [{0, 1}, {1}, {0, 1}]
    assert len(few) == 1
    loop.close()


@in_virtual_time
async def test_a_question_for_a_map_ends_with_its_time_and_leaves_nothing_behind() -> None:
    plane = Plane(serves=True)
    loop = begun(plane)
    version = loop.slot_map.version
    assert await loop.next_map(version, 30.0) is None
    assert await loop.next_map(0, 0.0) == loop.slot_map
    asking = asyncio.ensure_future(loop.next_map(version, 30.0))
    given_up = asyncio.ensure_future(loop.next_map(version, 30.0))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.wait([given_up])
    plane.reports[FIRST](Died(FIRST, 1))
    newer = await asking
    assert newer is not None
    assert newer.version > version
    assert not loop._map_askers
    loop.close()


@in_virtual_time
async def test_a_new_coordinator_gives_out_its_map_when_the_time_is_up() -> None:
    plane = Plane()
    loop = begun(plane, succeeds=True)
    plane.reports[FIRST](served(FIRST, 7))
    began_s = asyncio.get_running_loop().time()
    assert await loop.next_map(1, 2 * WHOLE_MAP_TIMEOUT_S) == loop.slot_map
    assert asyncio.get_running_loop().time() - began_s == pytest.approx(WHOLE_MAP_TIMEOUT_S)
    loop.close()


@in_virtual_time
async def test_members_that_die_before_they_serve_are_started_until_the_launch_fails() -> None:
    plane = Plane(dies=True)
    loop = begun(plane, shards=1)
    with pytest.raises(UsageError, match="shard 0 cannot start: its process has ended 3 times"):
        await loop.wait_until_launched()
    assert plane.said.count("start shard 0") == START_ATTEMPTS + 1
    await asyncio.sleep(3600)
    assert plane.said.count("start shard 0") == START_ATTEMPTS + 1
    loop.close()


@in_virtual_time
async def test_a_launch_that_fails_is_told_to_whoever_asks_later() -> None:
    plane = Plane()
    loop = begun(plane)
    plane.reports[SECOND](StartFailed(SECOND, "the app cannot be imported"))
    for _ in range(2):
        with pytest.raises(UsageError, match="shard 1 cannot start: the app cannot be imported"):
            await loop.wait_until_launched()
    loop.close()


@in_virtual_time
async def test_a_stop_ends_with_the_last_member_and_no_timer_runs_after_it() -> None:
    plane = Plane()
    loop = begun(plane, gateways=1)
    plane.reports[FIRST](Died(FIRST))  # it would be started again after a pause
    started = plane.said.count("start shard 0")
    await loop.stop()
    assert plane.said[-3:] == ["stop gateway 0", "stop shard 0", "stop shard 1"]
    await asyncio.sleep(3600)
    assert plane.said.count("start shard 0") == started
    assert not loop._timers
    await loop.stop()


@in_virtual_time
async def test_who_waits_for_the_launch_of_a_cluster_that_stops_is_not_left_waiting() -> None:
    loop = begun(Plane())
    waiting = asyncio.ensure_future(loop.wait_until_launched())
    await asyncio.sleep(0)
    await loop.stop()
    with pytest.raises(UsageError, match="stopped"):
        await waiting
