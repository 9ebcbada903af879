"""The coordinator with members that the test makes up: what it tells whom, and what it does about members that fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from ray.exceptions import RayActorError, RayError, RayTaskError

from fusion_cluster.errors import UsageError
from fusion_cluster.protocol.coordination import START_ATTEMPTS, MemberId
from fusion_cluster.protocol.slot_map import ShardAddress, SlotMap
from fusion_shards import coordinator as module
from fusion_shards.configuration import AppConfiguration, MemberDescription
from fusion_shards.control_plane import RayControlPlane
from fusion_shards.coordinator import Coordinator
from tests.waiting import until

CONFIGURATION = AppConfiguration(app_path="a:app", app_name="a", namespace="n", secret=b"s", shards=2, gateways=0)
KNOWN_VERSION = 1


class _Method:
    """What `actor.method` is: `remote` calls it."""

    def __init__(self, call: Callable[..., Coroutine[Any, Any, Any]]) -> None:
        self.remote = call


class _Member:
    """A shard actor: up with an address once the test has given it one, or failing to start."""

    def __init__(self) -> None:
        self.address: asyncio.Future[ShardAddress] = asyncio.get_running_loop().create_future()
        self.dead: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.describe = _Method(self._describe)
        self.watch = _Method(self._watch)
        self.stop = _Method(self._stop)

    async def _describe(self) -> MemberDescription:
        address = await asyncio.shield(self.address)
        return MemberDescription(address.epoch, address)

    async def _watch(self, epoch: int) -> None:
        assert epoch == self.address.result().epoch
        await asyncio.shield(self.dead)

    async def _stop(self) -> None:
        pass

    def fail(self, error: Exception) -> None:
        failure = RayTaskError("describe", "no traceback", error)  # type: ignore[no-untyped-call]
        self.address.set_exception(failure)


class _Ray:
    """The members; which of them were started again, and which ended for good."""

    def __init__(self) -> None:
        self.members = [_Member(), _Member()]
        self.killed: list[int] = []
        self.ended: list[int] = []

    def get_or_start(self, member: MemberId) -> _Member:
        return self.members[member.number]

    def kill(self, actor: _Member, *, no_restart: bool) -> None:
        shard_id = self.members.index(actor)
        if no_restart:
            self.ended.append(shard_id)
            return
        self.killed.append(shard_id)
        self.members[shard_id] = _Member()


@pytest.fixture
async def fake(monkeypatch: pytest.MonkeyPatch) -> _Ray:
    ray = _Ray()
    monkeypatch.setattr(RayControlPlane, "_get_or_start", lambda _plane, member: ray.get_or_start(member))
    monkeypatch.setattr("ray.kill", ray.kill)
    monkeypatch.setattr(module, "was_restarted", lambda: False)
    return ray


def up(shard_id: int, epoch: int) -> ShardAddress:
    return ShardAddress(shard_id, "host", 1000 + shard_id, epoch)


async def end(coordinator: Coordinator) -> None:
    coordinator._loop.close()
    await coordinator._plane.close()


def shards(coordinator: Coordinator) -> set[int]:
    return set(coordinator._loop.slot_map.shards)


async def known(coordinator: Coordinator, newer_than: int, timeout_s: float) -> set[int]:
    """The shards in the map that a member is told."""
    encoded = await coordinator.slot_map(newer_than, timeout_s)
    assert encoded is not None
    return set(SlotMap.decode(encoded).shards)


async def test_a_new_coordinator_tells_nobody_who_has_a_map_of_one_without_the_shards_that_live(
    fake: _Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "was_restarted", lambda: True)
    coordinator = Coordinator(CONFIGURATION)
    following = asyncio.create_task(known(coordinator, KNOWN_VERSION, 30.0))
    fake.members[0].address.set_result(up(0, 1))
    await until(lambda: 0 in shards(coordinator))
    assert not following.done()
    assert await known(coordinator, 0, 0.0) == {0}  # better than nothing
    fake.members[1].address.set_result(up(1, 1))
    assert await following == {0, 1}
    await end(coordinator)


async def test_who_waits_for_a_map_in_vain_is_told_so(fake: _Ray) -> None:
    coordinator = Coordinator(CONFIGURATION)
    assert await coordinator.slot_map(KNOWN_VERSION, 0.01) is None
    assert not coordinator._loop._map_askers
    await end(coordinator)


async def test_epochs_rise_over_the_restart_of_the_coordinator_and_those_that_live_keep_theirs(
    fake: _Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "was_restarted", lambda: True)
    coordinator = Coordinator(CONFIGURATION)
    fake.members[0].address.set_result(up(0, 9))
    await until(lambda: 0 in shards(coordinator))
    assert await coordinator.new_epoch("shard", 0) == 10
    assert await coordinator.new_epoch("shard", 1) > 1_000_000  # its predecessor's is not known any more
    await end(coordinator)


async def test_a_member_whose_process_ends_again_and_again_fails_the_launch(fake: _Ray) -> None:
    coordinator = Coordinator(CONFIGURATION)
    launching = asyncio.create_task(coordinator.wait_until_up())
    for attempt in range(START_ATTEMPTS):
        assert await coordinator.new_epoch("shard", 1) == attempt + 1
    await asyncio.sleep(0)
    assert not launching.done()
    await coordinator.new_epoch("shard", 1)
    with pytest.raises(UsageError, match="shard 1 cannot start: its process has ended 3 times"):
        await launching
    await end(coordinator)


async def test_a_member_that_cannot_start_fails_the_launch(fake: _Ray) -> None:
    coordinator = Coordinator(CONFIGURATION)
    fake.members[1].fail(ValueError("nothing there"))
    with pytest.raises(UsageError, match="shard 1 cannot start: nothing there"):
        await coordinator.wait_until_up()
    assert fake.killed == []
    await end(coordinator)


async def test_a_member_that_was_up_and_cannot_start_for_now_is_tried_again(
    fake: _Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "was_restarted", lambda: True)  # so that all members have been up
    coordinator = Coordinator(CONFIGURATION)
    fake.members[1].fail(OSError("the port is taken for a moment"))
    await until(lambda: fake.killed == [1])
    fake.members[1].address.set_result(up(1, 3))
    await until(lambda: 1 in shards(coordinator))
    await end(coordinator)


async def test_a_member_that_dies_leaves_the_map_and_is_started_again(fake: _Ray) -> None:
    coordinator = Coordinator(CONFIGURATION)
    for shard_id in (0, 1):
        assert await coordinator.new_epoch("shard", shard_id) == 1
        fake.members[shard_id].address.set_result(up(shard_id, 1))
    await coordinator._loop.wait_until_launched()
    died = fake.members[0]
    fake.members[0] = _Member()
    died.dead.set_exception(RayActorError())
    await until(lambda: shards(coordinator) == {1})
    assert await coordinator.new_epoch("shard", 0) == 2
    fake.members[0].address.set_result(up(0, 2))
    await until(lambda: shards(coordinator) == {0, 1})
    await end(coordinator)


async def test_a_member_that_ray_has_lost_sight_of_is_started_again(fake: _Ray) -> None:
    coordinator = Coordinator(CONFIGURATION)
    fake.members[0].address.set_result(up(0, 1))
    await until(lambda: 0 in shards(coordinator))
    lost = fake.members[0]
    fake.members[0] = _Member()
    lost.dead.set_exception(RayError("the connection to its own control store is lost"))
    await until(lambda: not shards(coordinator))
    fake.members[0].address.set_result(up(0, 1))  # the same one: it has lived on
    await until(lambda: 0 in shards(coordinator))
    await end(coordinator)


async def test_a_member_that_ray_cannot_start_now_is_started_later(fake: _Ray, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [RuntimeError("the control store does not answer"), ValueError("so many actors")]

    def get_or_start(_plane: RayControlPlane, member: MemberId) -> _Member:
        if failures:
            raise failures.pop()
        return fake.members[member.number]

    monkeypatch.setattr(RayControlPlane, "_get_or_start", get_or_start)
    coordinator = Coordinator(CONFIGURATION)
    for shard_id in range(2):
        fake.members[shard_id].address.set_result(up(shard_id, 1))
    await until(lambda: shards(coordinator) == {0, 1})
    await end(coordinator)


async def test_stopping_ends_with_the_last_member(fake: _Ray) -> None:
    coordinator = Coordinator(CONFIGURATION)
    fake.members[0].address.set_result(up(0, 1))
    await until(lambda: 0 in shards(coordinator))
    await coordinator.stop()
    assert sorted(fake.ended) == [0, 1]
    await coordinator.stop()  # the launcher may ask again


async def test_a_member_that_ray_loses_sight_of_while_it_stops_does_not_hold_the_stop_up(fake: _Ray) -> None:
    coordinator = Coordinator(CONFIGURATION)
    for shard_id in range(2):
        fake.members[shard_id].address.set_result(up(shard_id, 1))
    await until(lambda: shards(coordinator) == {0, 1})

    async def lost() -> None:
        raise RayError("out of sight")

    fake.members[0].stop = _Method(lost)
    await asyncio.wait_for(coordinator.stop(), 5.0)
    assert sorted(fake.ended) == [0, 1]
