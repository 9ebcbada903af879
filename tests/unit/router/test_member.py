"""Members start and stop in one order, whatever they are, however far they came, and whoever stops them how often."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from fusion_cluster import App, ComputeService, Database, command, compute_method
from fusion_cluster.errors import ShardUnavailable, UsageError
from fusion_cluster.link.carrier import Carrier
from fusion_cluster.link.tcp import dial_tcp
from fusion_cluster.protocol.slot_map import ShardAddress, SlotMap
from fusion_cluster.testing import LocalCluster
from fusion_router.entrances import Entrance, LinkEntrance
from fusion_router.gateway import GatewayEntrance
from fusion_router.host import ClusterHost
from fusion_router.member import START_ORDER, STOP_ORDER, Member, Step
from tests.waiting import until

SECRET = b"secret"


class Jars(ComputeService):
    database: Database

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.go_on = asyncio.Event()
        self.ends: list[str] = []

    @compute_method
    async def amount(self, jar: int) -> int:
        return jar

    @command
    async def fill(self, jar: int) -> str:
        self.began.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.ends.append("cancelled")
            raise
        self.ends.append("filled")
        return "filled"


class Coordinator:
    """Where members get their slot maps: from memory.

    Attributes:
        followers: how many follow the map now.
        answers: cleared, nobody is answered.
    """

    def __init__(self) -> None:
        self.slot_map = SlotMap.even([0])
        self.followers = 0
        self.answers = asyncio.Event()
        self.answers.set()

    async def join(self, address: str) -> SlotMap:
        await self.answers.wait()
        if address.startswith("127.") and not self.slot_map.shards:
            host, _, port = address.rpartition(":")
            self.slot_map = self.slot_map.with_shard(ShardAddress(0, host, int(port), 1))
        return self.slot_map

    async def follow(self, host: ClusterHost) -> None:
        self.followers += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.followers -= 1


async def dial(address: ShardAddress) -> Carrier:
    return await dial_tcp(address.host, address.port)


class Made:
    """Makes members of one app, and notes their steps."""

    def __init__(self, database_url: str) -> None:
        self.url = database_url
        self.coordinator = Coordinator()
        self.steps: list[Step] = []
        self.members: list[Member] = []
        self.on_step: Callable[[Step], None] = lambda step: None

    def _note(self, step: Step) -> None:
        self.steps.append(step)
        self.on_step(step)

    def member(self, kind: str, *, grace_s: float = 5.0, address: str = "127.0.0.1:0") -> Member:
        app = App("jars", services=[Jars], database=Database(self.url))
        shard_id, epoch = (0, 1) if kind == "shard" else (None, 0)
        host = ClusterHost(app, dial=dial, peer_id=kind, secret=SECRET, shard_id=shard_id, epoch=epoch)
        entrances: list[Entrance] = []
        if kind == "shard":
            entrances.append(LinkEntrance(host, secret=SECRET))
        if kind == "gateway":
            entrances.append(GatewayEntrance(host, address=address))
        member = Member(
            host,
            entrances=entrances,
            slot_maps=self.coordinator,
            database=app.database,
            grace_s=grace_s,
            on_step=self._note,
        )
        self.members.append(member)
        return member


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Made]:
    """Makes members, stops them at the end, and sees that no task of theirs is left."""
    made = Made(f"sqlite:///{tmp_path}/jars.db")
    yield made
    for member in made.members:
        await member.stop()
        assert member.host.graph.is_closed
    assert made.coordinator.followers == 0
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()}, what="the end of all tasks")


KINDS = pytest.mark.parametrize("kind", ["shard", "gateway", "driver"])


@KINDS
async def test_every_kind_of_member_starts_and_stops_in_the_one_order(made: Made, kind: str) -> None:
    member = made.member(kind)
    await member.start()
    assert tuple(made.steps) == START_ORDER
    assert bool(member.address) == (kind != "driver")
    await until(lambda: made.coordinator.followers == 1)
    await member.stop()
    assert tuple(made.steps) == (*START_ORDER, *STOP_ORDER)


@KINDS
@pytest.mark.parametrize("step", START_ORDER)
async def test_a_start_that_fails_half_way_stops_what_was_begun(made: Made, kind: str, step: Step) -> None:
    def fail(begun: Step) -> None:
        if begun is step:
            made.on_step = lambda step: None
            raise OSError("no more")

    made.on_step = fail
    member = made.member(kind)
    with pytest.raises(OSError, match="no more"):
        await member.start()
    assert tuple(made.steps) == (*START_ORDER[: START_ORDER.index(step) + 1], *STOP_ORDER)
    assert member.host.graph.is_closed
    assert member.host.links.is_closed
    if kind == "shard" and member.address:
        with pytest.raises(OSError, match=r"refused|Connect"):
            await dial_tcp("127.0.0.1", int(member.address.rpartition(":")[2]))
    with pytest.raises(UsageError, match="once"):
        await member.start()


async def test_an_address_that_is_taken_leaves_nothing_open(made: Made) -> None:
    first = made.member("gateway")
    await first.start()
    second = made.member("gateway", address=first.address)
    with pytest.raises(UsageError, match="address"):
        await second.start()
    assert second.host.graph.is_closed


@KINDS
async def test_a_member_that_is_stopped_while_it_starts_is_stopped_in_order(made: Made, kind: str) -> None:
    made.coordinator.answers.clear()
    member = made.member(kind)
    starting = asyncio.create_task(member.start())
    await until(lambda: Step.SLOT_MAP in made.steps)
    await member.stop()
    with pytest.raises(ShardUnavailable, match="stopped while it started"):
        await starting
    assert tuple(made.steps[-len(STOP_ORDER) :]) == STOP_ORDER
    assert Step.CLIENTS_ENTRANCE not in made.steps


@KINDS
async def test_a_start_that_is_cancelled_stops_what_was_begun(made: Made, kind: str) -> None:
    made.coordinator.answers.clear()
    member = made.member(kind)
    starting = asyncio.create_task(member.start())
    await until(lambda: Step.SLOT_MAP in made.steps)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert tuple(made.steps[-len(STOP_ORDER) :]) == STOP_ORDER
    assert member.host.graph.is_closed


async def test_a_member_that_never_started_can_be_stopped(made: Made) -> None:
    member = made.member("shard")
    await member.stop()
    assert tuple(made.steps) == STOP_ORDER
    with pytest.raises(UsageError, match="once"):
        await member.start()


@KINDS
async def test_who_stops_a_member_again_waits_for_the_same_stop(made: Made, kind: str) -> None:
    member = made.member(kind)
    await member.start()
    await asyncio.gather(*(member.stop() for _ in range(3)))
    await member.stop()
    assert tuple(made.steps) == (*START_ORDER, *STOP_ORDER)


@KINDS
@pytest.mark.parametrize("step", STOP_ORDER)
async def test_a_step_that_fails_keeps_none_of_the_later_ones(made: Made, kind: str, step: Step) -> None:
    member = made.member(kind)
    await member.start()
    stop_step, broken = member._stop_step, step

    async def fail(step: Step) -> None:
        await stop_step(step)
        if step is broken:
            raise RuntimeError("broken")

    member._stop_step = fail  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="broken"):
        await member.stop()
    assert tuple(made.steps) == (*START_ORDER, *STOP_ORDER)
    assert member.host.graph.is_closed
    member._stopping = None
    member._stop_step = stop_step  # type: ignore[method-assign]


@pytest.mark.parametrize("step", STOP_ORDER)
async def test_a_stop_that_is_cut_off_in_any_step_goes_on_with_the_next(made: Made, step: Step) -> None:
    """As when the event loop ends, which cancels every task."""
    member = made.member("shard")
    await member.start()

    def cut_off(begun: Step) -> None:
        if begun is step:
            assert member._stopping is not None
            member._stopping.cancel()

    made.on_step = cut_off
    with pytest.raises(asyncio.CancelledError):
        await member.stop()
    assert tuple(made.steps) == (*START_ORDER, *STOP_ORDER)
    assert member.host.links.is_closed or step is Step.LINKS
    made.on_step = lambda step: None
    member._stopping = None  # what was cut off is closed now


async def command_under_way(made: Made, grace_s: float) -> tuple[Member, Member, Jars, asyncio.Task[Any]]:
    """Return a shard, a driver, the service of the shard and a command of the driver that runs there."""
    shard, driver = made.member("shard", grace_s=grace_s), made.member("driver")
    await shard.start()
    await driver.start()
    filling = asyncio.create_task(driver.host.service(Jars).fill(1))
    jars = shard.host.service(Jars)
    await asyncio.wait_for(jars.began.wait(), 10.0)
    return shard, driver, jars, filling


async def test_a_command_that_runs_ends_before_the_sessions_do_and_its_caller_has_the_result(made: Made) -> None:
    shard, _, jars, filling = await command_under_way(made, 30.0)
    made.steps.clear()
    stopping = asyncio.create_task(shard.stop())
    await until(lambda: made.steps and made.steps[-1] is Step.COMMANDS)
    assert not filling.done()
    jars.go_on.set()
    assert await filling == "filled"
    await stopping
    assert jars.ends == ["filled"]


async def test_a_cancelled_stop_waits_no_longer_for_commands_and_is_made_to_its_end(made: Made) -> None:
    shard, driver, jars, filling = await command_under_way(made, 600.0)
    made.steps.clear()
    stopping = asyncio.create_task(shard.stop())
    await until(lambda: made.steps and made.steps[-1] is Step.COMMANDS)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert tuple(made.steps) == STOP_ORDER
    assert jars.ends == ["cancelled"]
    filling.cancel()
    await asyncio.wait([filling])
    await driver.stop()


async def test_a_subscriber_is_told_before_the_links_are_closed_and_reads_nothing_old(made: Made) -> None:
    shard, driver = made.member("shard"), made.member("driver")
    await shard.start()
    await driver.start()
    replica = driver.host.service(Jars).amount(3)
    assert await replica == 3
    await shard.stop()
    await asyncio.wait_for(replica.when_invalidated(), 10.0)


async def test_a_local_cluster_of_which_a_shard_cannot_start_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, started = ClusterHost.start, []

    async def fail_at_the_second(host: ClusterHost) -> None:
        await start(host)
        started.append(host)
        if len(started) == 2:
            raise OSError("no more")

    monkeypatch.setattr(ClusterHost, "start", fail_at_the_second)
    app = App("jars", services=[Jars], database=Database(f"sqlite:///{tmp_path}/jars.db"))
    with pytest.raises(OSError, match="no more"):
        async with LocalCluster(app, shards=3):
            raise AssertionError("it is not open")
    assert [host.graph.is_closed for host in started] == [True, True]
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()}, what="the end of all tasks")


@pytest.mark.parametrize("what_fails", ["a driver", "a shard", "the look at the graphs"])
async def test_a_local_cluster_of_which_a_part_cannot_stop_leaves_nothing(tmp_path: Path, what_fails: str) -> None:
    async def fail() -> None:
        raise OSError("no more")

    def find_fault() -> None:
        raise OSError("no more")

    database = Database(f"sqlite:///{tmp_path}/jars.db")
    app = App("jars", services=[Jars], database=database)
    cluster = await LocalCluster(app, shards=2).__aenter__()
    hosts = cluster.hosts
    if what_fails == "the look at the graphs":
        cluster.validate = find_fault  # type: ignore[method-assign]
    else:
        host = cluster.host if what_fails == "a driver" else cluster.shards[0].host
        host.stop_following = fail  # type: ignore[method-assign]
    with pytest.raises(OSError, match="no more"):
        await cluster.__aexit__(None, None, None)
    assert all(host.graph.is_closed for host in hosts)
    if what_fails == "a shard":  # its log is still followed, as nothing has stopped that
        assert hosts[0].log is not None
        await hosts[0].log.close()
        await database.dispose()  # what it has opened since
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()}, what="the end of all tasks")
