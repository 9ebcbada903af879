"""Coordination in a world of processes that start, die, describe themselves late and ask for maps at any time.

The world keeps the caller's obligations and nothing more; the coordinator may be replaced by a successor at any moment.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fusion_cluster.protocol.coordination import (
    AnswerEpoch,
    AnswerMap,
    AskerLeft,
    Began,
    Coordination,
    Died,
    Effect,
    EpochAsked,
    Event,
    FailLaunch,
    KillMember,
    Life,
    MapAsked,
    MemberId,
    Registered,
    ReportLaunch,
    ReportStop,
    Served,
    SetTimer,
    StartFailed,
    StartMember,
    StopAsked,
    StopMember,
    Stopped,
    Ticked,
)
from fusion_cluster.protocol.slot_map import ShardAddress, SlotMap

SHARDS, GATEWAYS = 2, 1
MEMBERS = [*(MemberId("shard", i) for i in range(SHARDS)), *(MemberId("gateway", i) for i in range(GATEWAYS))]
members = st.sampled_from(MEMBERS)
rarely = st.integers(0, 11)


@dataclass
class Process:
    """The process of a member.

    Attributes:
        epoch: what it was given; 0: it has not asked.
        is_watched: the coordinator was told that it serves, and would be told of its death.
    """

    epoch: int = 0
    is_watched: bool = False


@dataclass
class World:
    """What there is besides the coordinator.

    Attributes:
        processes: those that run.
        lost: epochs of watched incarnations that have died, and whose deaths are to be told.
        ordered: members that were ordered, and of which neither a description nor an end was told.
        stopping: members that were told to stop.
        handed_out: all epochs of each member, in order.
        known: the newest map of each follower.
        asking: followers that wait for the next one.
    """

    processes: dict[MemberId, Process] = field(default_factory=dict)
    lost: dict[MemberId, int] = field(default_factory=dict)
    ordered: set[MemberId] = field(default_factory=set)
    stopping: set[MemberId] = field(default_factory=set)
    handed_out: dict[MemberId, list[int]] = field(default_factory=lambda: {member: [] for member in MEMBERS})
    known: dict[str, SlotMap] = field(default_factory=dict)
    asking: set[str] = field(default_factory=set)


class CoordinationMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.now_s = 0.0
        self.timers: list[float] = []
        self.askers: dict[int, str | MemberId] = {}
        self.coordination: Coordination
        self.versions: list[int] = []
        self.has_failed = self.is_stopping = self.is_stopped = False

    # -- the coordinator ----------------------------------------------------------------------------------------------
    @initialize()
    def launch(self) -> None:
        self.coordination = Coordination(shards=SHARDS, gateways=GATEWAYS)
        self.step(Began())

    @precondition(lambda self: not self.is_stopping and not self.has_failed)
    @rule(clock_is_set_back=st.booleans(), chance=rarely)
    def coordinator_restarts(self, clock_is_set_back: bool, chance: int) -> None:
        """What the old one was asked is asked again; what it was to be told, the new one finds out."""
        if chance > 3:
            return
        highest = max((epoch for epochs in self.world.handed_out.values() for epoch in epochs), default=0)
        version = 1 if clock_is_set_back else self.versions[-1] + 1000
        self.coordination = Coordination(
            shards=SHARDS, gateways=GATEWAYS, first_version=version, succeeds=True, last_epoch=highest + 10
        )
        self.versions, self.timers, self.askers = [], [], {}
        self.world.lost.clear()
        self.world.ordered.clear()
        for process in self.world.processes.values():
            process.is_watched = False
        self.step(Began())
        for follower in sorted(self.world.asking):
            self.ask(follower)

    def step(self, event: Event) -> None:
        effects = self.coordination.step(event, self.now_s)
        self.coordination.validate()
        for effect in effects:
            self.apply(effect)

    def ask(self, follower: str) -> None:
        asker = len(self.askers)
        self.askers[asker] = follower
        self.world.asking.add(follower)
        known = self.world.known.get(follower)
        self.step(MapAsked(asker, 0 if known is None else known.version))

    def apply(self, effect: Effect) -> None:
        world = self.world
        match effect:
            case StartMember(member):
                assert member in MEMBERS
                assert not self.is_stopping, "a stopped cluster starts nothing"
                assert member not in world.ordered, "one start at a time"
                assert member not in world.lost, "the one before is still watched"
                world.ordered.add(member)
                world.processes.setdefault(member, Process())
            case KillMember(member):
                del world.processes[member]
            case StopMember(member):
                assert member.role == "gateway" or not any(other.role == "gateway" for other in world.processes)
                world.stopping.add(member)
            case AnswerEpoch(asker, epoch):
                asked = self.askers[asker]
                assert isinstance(asked, MemberId)
                assert epoch > max(world.handed_out[asked], default=0), "epochs only rise"
                world.handed_out[asked].append(epoch)
                world.processes[asked].epoch = epoch
            case AnswerMap(asker, slot_map):
                follower = self.askers[asker]
                assert isinstance(follower, str)
                known = world.known.get(follower)
                assert known is None or slot_map.version > known.version, "a map is newer than the one that is known"
                world.known[follower] = slot_map
                world.asking.remove(follower)
            case SetTimer(at_s):
                assert at_s >= self.now_s
                self.timers.append(at_s)
            case FailLaunch():
                assert not self.has_failed, "a launch fails once"
                self.has_failed = True
            case ReportLaunch():
                assert all(self.coordination.life(member) is Life.UP for member in MEMBERS)
            case ReportStop():
                assert not self.is_stopped
                assert not world.processes
                self.is_stopped = True

    # -- processes ----------------------------------------------------------------------------------------------------
    @rule(member=members)
    def process_asks_for_its_epoch(self, member: MemberId) -> None:
        process = self.world.processes.get(member)
        if process is not None and not process.epoch:
            asker = len(self.askers)
            self.askers[asker] = member
            self.step(EpochAsked(member, asker))

    @rule(shard_id=st.integers(0, SHARDS - 1), is_late=st.booleans())
    def shard_registers(self, shard_id: int, is_late: bool) -> None:
        """Perhaps an incarnation that has a successor by now."""
        member = MemberId("shard", shard_id)
        process = self.world.processes.get(member)
        if is_late and len(self.world.handed_out[member]) > 1:
            self.step(Registered(address(shard_id, self.world.handed_out[member][-2])))
        elif process is not None and process.epoch:
            self.step(Registered(address(shard_id, process.epoch)))

    @rule(member=members)
    def process_serves(self, member: MemberId) -> None:
        process = self.world.processes.get(member)
        if process is not None and process.epoch and member in self.world.ordered:
            self.world.ordered.remove(member)
            process.is_watched = True
            self.step(Served(member, process.epoch, address_of(member, process.epoch)))

    @rule(member=members, starts_again=st.booleans())
    def process_dies(self, member: MemberId, starts_again: bool) -> None:
        """Ray starts it again by itself, perhaps before it tells of the death."""
        process = self.world.processes.pop(member, None)
        if process is None:
            return
        if process.is_watched:
            self.world.lost[member] = process.epoch
        if starts_again and member not in self.world.stopping:
            self.world.processes[member] = Process()

    @rule(member=members)
    def death_is_told(self, member: MemberId) -> None:
        if (epoch := self.world.lost.pop(member, None)) is not None:
            before = self.coordination.slot_map.shards.get(member.number) if member.role == "shard" else None
            self.step(Died(member, epoch))
            if before is not None and before.epoch > epoch:
                assert self.coordination.slot_map.shards.get(member.number) == before, "its successor stays"
        elif member in self.world.ordered and self.world.processes.get(member, Process()).epoch == 0:
            self.world.ordered.remove(member)
            self.step(Died(member))

    @rule(member=members, registers=st.booleans())
    def successor_is_there_before_the_death_is_told(self, member: MemberId, registers: bool) -> None:
        self.process_dies(member, True)
        self.process_asks_for_its_epoch(member)
        if registers and member.role == "shard":
            self.shard_registers(member.number, False)

    @rule(member=members)
    def description_comes_after_that_of_a_successor_was_due(self, member: MemberId) -> None:
        self.process_asks_for_its_epoch(member)
        if member not in self.world.ordered or member not in self.world.processes:
            return
        self.successor_is_there_before_the_death_is_told(member, True)
        if member not in self.world.processes:
            return  # it is to stop, and has no successor
        self.world.ordered.remove(member)
        epoch = self.world.handed_out[member][-2]
        self.step(Served(member, epoch, address_of(member, epoch)))
        self.step(Died(member, epoch))

    @precondition(lambda self: not self.has_failed)
    @rule(member=members, chance=rarely)
    def process_cannot_serve(self, member: MemberId, chance: int) -> None:
        process = self.world.processes.get(member)
        if process is not None and process.epoch and member in self.world.ordered and chance < 3:
            self.world.ordered.remove(member)
            self.step(StartFailed(member, "its port is taken"))

    @rule(seconds=st.sampled_from([0.01, 0.05, 1.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        until_s = self.now_s + seconds
        while due := [at_s for at_s in self.timers if at_s <= until_s]:
            self.now_s = max(self.now_s, min(due))
            self.timers.remove(min(due))
            self.step(Ticked())
        self.now_s = until_s

    # -- maps ---------------------------------------------------------------------------------------------------------
    @rule(follower=st.sampled_from("ab"))
    def somebody_asks_for_a_map(self, follower: str) -> None:
        if follower not in self.world.asking:
            self.ask(follower)

    @rule(follower=st.sampled_from("ab"))
    def somebody_asks_no_more(self, follower: str) -> None:
        for asker in [asker for asker, name in self.askers.items() if name == follower]:
            self.world.asking.discard(follower)
            self.step(AskerLeft(asker))

    # -- the end ------------------------------------------------------------------------------------------------------
    @rule(chance=rarely)
    def cluster_stops(self, chance: int) -> None:
        if chance == 0:
            self.is_stopping = True
            self.step(StopAsked())

    @rule(member=members)
    def member_has_stopped(self, member: MemberId) -> None:
        if member in self.world.stopping:
            self.world.stopping.remove(member)
            self.world.processes.pop(member, None)
            self.world.ordered.discard(member)
            self.world.lost.pop(member, None)
            self.step(Stopped(member))

    @invariant()
    def versions_only_rise(self) -> None:
        version = self.coordination.slot_map.version
        assert not self.versions or version >= self.versions[-1]
        self.versions.append(version)

    @invariant()
    def a_shard_that_is_up_is_in_the_map(self) -> None:
        for member in MEMBERS[:SHARDS]:
            if self.coordination.life(member) is Life.UP:
                assert self.coordination.slot_map.shards[member.number].epoch == self.coordination.epoch(member)

    def teardown(self) -> None:
        """Left alone, the cluster is up or has stopped, and who follows has the newest map."""
        if not hasattr(self, "coordination"):
            return
        for _ in range(3):
            for member in MEMBERS:
                self.member_has_stopped(member)
                self.death_is_told(member)
            self.time_passes(20.0)
            for member in MEMBERS:
                self.process_asks_for_its_epoch(member)
                self.process_serves(member)
        for follower in "ab":
            self.somebody_asks_for_a_map(follower)
        for follower in "ab":
            self.somebody_asks_for_a_map(follower)
        if self.is_stopping:
            assert self.is_stopped
        elif not self.has_failed:
            assert self.coordination.is_up
            shards = self.coordination.slot_map.shards
            newest = {shard_id: self.world.handed_out[MemberId("shard", shard_id)][-1] for shard_id in shards}
            assert newest == {shard_id: shard.epoch for shard_id, shard in shards.items()}
        if not self.is_stopped:
            assert {known.version for known in self.world.known.values()} == {self.coordination.slot_map.version}


def address(shard_id: int, epoch: int) -> ShardAddress:
    return ShardAddress(shard_id, "machine", 4000 + epoch, epoch)


def address_of(member: MemberId, epoch: int) -> ShardAddress | None:
    return address(member.number, epoch) if member.role == "shard" else None


TestCoordinationMachine = CoordinationMachine.TestCase
TestCoordinationMachine.settings = settings(
    max_examples=100, stateful_step_count=60, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate]
)
