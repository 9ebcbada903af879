"""Coordination: which members run, in which epoch, and which slot map is in force.

Invariants: epochs of a member and versions of the map only rise, also over restarts of the coordinator; the map names
no shard in an epoch older than the newest one that was handed out or seen; no member is started once the cluster stops.

**The caller's obligations.** `step` is given each event once, with a time that does not go back, and its effects are
run in the order given before the next event is reported. Then:

- `Began` comes first, and once.
- `StartMember` finds or starts one process, and is followed by at most one `Served`, then by exactly one `Died` (with
  the epoch that served) or, if it never served, by one `Died` (epoch 0) or `StartFailed`.
- A process asks `EpochAsked` before it registers or serves, and serves in the epoch that it was given.
- `StopMember` is followed by `Stopped`, in whatever way the member ends, and also if it does not run.
- `SetTimer` is followed by `Ticked` at that time or later. An extra `Ticked` does no harm.
- An asker that got a map by `AnswerMap` and wants the next one asks again, with the version that it has by then: that
  is the acknowledgement.
"""

from __future__ import annotations

from dataclasses import replace

from fusion_cluster.errors import InvariantViolation, LocalProtocolError
from fusion_cluster.protocol.coordination.effects import (
    AnswerEpoch,
    AnswerMap,
    Effect,
    FailLaunch,
    KillMember,
    ReportLaunch,
    ReportStop,
    SetTimer,
    StartMember,
    StopMember,
)
from fusion_cluster.protocol.coordination.events import (
    AskerLeft,
    Began,
    Died,
    EpochAsked,
    Event,
    MapAsked,
    Registered,
    Served,
    StartFailed,
    StopAsked,
    Stopped,
    Ticked,
)
from fusion_cluster.protocol.coordination.life import Life, LifeEvent, next_life
from fusion_cluster.protocol.coordination.members import MemberId, Role
from fusion_cluster.protocol.slot_map import ShardAddress, SlotMap

START_ATTEMPTS = 3
"""How often the process of a member may end before it has ever served; then the launch fails."""

WHOLE_MAP_TIMEOUT_S = 10.0
"""How long a new coordinator waits for all the shards before it gives its map to processes that have one already."""

STOP_ORDER: tuple[Role, ...] = ("gateway", "shard")
"""The roles in the order of their stop: gateways have calls in flight at the shards."""


class _Member:
    """One member.

    Attributes:
        state: the state of its life.
        epoch: the newest one that was handed out or seen; 0: none was.
        last_epoch: no epoch that a predecessor of this coordinator handed out is higher; 0 once the member has
            described itself, because then its newest epoch is known. (An incarnation that registers may be late, and
            have a successor.)
        has_served: whether it has been up, so that the cause of a later failure may go away.
        order_at_s: when its start is to be ordered; meaningful while it waits.
    """

    __slots__ = ("epoch", "has_served", "last_epoch", "order_at_s", "state")

    def __init__(self, last_epoch: int, has_served: bool) -> None:
        self.state = Life.WAITING
        self.epoch = 0
        self.last_epoch = last_epoch
        self.has_served = has_served
        self.order_at_s = 0.0


class Coordination:
    """The coordinator of one app, without IO.

    Args:
        shards: how many shards the app has.
        gateways: how many gateways.
        first_version: version of the first map. Higher than those of a predecessor: for example, the time in ms.
        succeeds: whether it succeeds a coordinator whose members may be running.
        last_epoch: no epoch that a predecessor handed out is higher. Members that have not described themselves go on
            from here. 0 where there was no predecessor.
        death_pause_s: pause before the next start of a member that has died before it served.
        failure_pause_s: pause before the next start of a member that was up before, and cannot serve now.

    Attributes:
        slot_map: the map in force.
    """

    def __init__(
        self,
        *,
        shards: int,
        gateways: int,
        first_version: int = 1,
        succeeds: bool = False,
        last_epoch: int = 0,
        death_pause_s: float = 0.05,
        failure_pause_s: float = 1.0,
    ) -> None:
        ids = [MemberId("shard", i) for i in range(shards)] + [MemberId("gateway", i) for i in range(gateways)]
        self.slot_map = SlotMap.even(range(shards), version=first_version)
        self._members = {member: _Member(last_epoch, succeeds) for member in ids}
        self._shard_count = shards
        self._death_pause_s = death_pause_s
        self._failure_pause_s = failure_pause_s
        # Askers that wait for the next map: asker → the version known there.
        self._askers: dict[int, int] = {}
        # Until it is, processes that have a map keep it: it may name more of the live shards.
        self._is_map_whole = False
        self._whole_at_s = 0.0
        self._has_begun = False
        self._is_launched = False
        self._has_failed = False
        self._is_stopping = False
        self._effects: list[Effect] = []
        self._now_s = 0.0

    # -- state --------------------------------------------------------------------------------------------------------
    @property
    def members(self) -> tuple[MemberId, ...]:
        """All members: shards, then gateways."""
        return tuple(self._members)

    @property
    def is_up(self) -> bool:
        """Whether all members serve now."""
        return all(member.state is Life.UP for member in self._members.values())

    def life(self, member: MemberId) -> Life:
        """The state of a member."""
        return self._members[member].state

    def epoch(self, member: MemberId) -> int:
        """The newest epoch of a member that was handed out or seen; 0: none was."""
        return self._members[member].epoch

    def validate(self) -> None:
        """Check the invariants.

        Raises:
            InvariantViolation: one of them is broken.
        """
        for shard_id, address in self.slot_map.shards.items():
            if address.epoch != self._members[MemberId("shard", shard_id)].epoch:
                raise InvariantViolation(f"the map names {address}, which is not the newest incarnation")
        if self._is_map_whole:
            late = [asker for asker, version in self._askers.items() if version < self.slot_map.version]
            if late:
                raise InvariantViolation(f"{late} wait for a map that is there")
        if self._is_stopping and any(member.state < Life.STOPPING for member in self._members.values()):
            raise InvariantViolation("a member of a cluster that stops goes on")

    # -- decisions ----------------------------------------------------------------------------------------------------
    def step(self, event: Event, now_s: float) -> list[Effect]:
        """Take an event and return the effects to run.

        Args:
            event: what has happened.
            now_s: the time, in seconds of any clock that does not go back.

        Raises:
            LocalProtocolError: the caller has broken its obligations (see the module).
        """
        if isinstance(event, Began) is self._has_begun:
            raise LocalProtocolError(f"{event} " + ("comes twice" if self._has_begun else "comes before the begin"))
        self._now_s = max(now_s, self._now_s)
        match event:
            case Began():
                self._begin()
            case EpochAsked(member, asker):
                self._hand_out_epoch(member, asker)
            case Registered(address):
                self._admit(address)
            case Served(member, epoch, address):
                self._on_served(member, epoch, address)
            case Died(member, epoch):
                self._on_died(member, epoch)
            case StartFailed(member, reason):
                self._on_start_failed(member, reason)
            case MapAsked(asker, newer_than):
                self._on_map_asked(asker, newer_than)
            case AskerLeft(asker):
                self._askers.pop(asker, None)
            case StopAsked():
                self._stop()
            case Stopped(member):
                self._on_stopped(member)
            case Ticked():
                self._on_ticked()
        effects, self._effects = self._effects, []
        return effects

    def _begin(self) -> None:
        self._has_begun = True
        self._whole_at_s = self._now_s + WHOLE_MAP_TIMEOUT_S
        self._effects.append(SetTimer(self._whole_at_s))
        for member in self._members:
            self._order(member)

    # -- the lives of members -----------------------------------------------------------------------------------------
    def _hand_out_epoch(self, member: MemberId, asker: int) -> None:
        record = self._members[member]
        self._change(member, LifeEvent.JOIN)
        record.epoch = max(record.epoch, record.last_epoch) + 1
        self._effects.append(AnswerEpoch(asker, record.epoch))
        # Its predecessor is over: Ray starts a process when the one before has ended or was given up.
        self._remove(member, older_than=record.epoch)
        attempts = record.epoch - 1
        if attempts >= START_ATTEMPTS and not record.has_served and record.state < Life.FAILED:
            self._change(member, LifeEvent.GIVE_UP)
            self._fail(f"{member} cannot start: its process has ended {attempts} times; its logs say why")

    def _on_served(self, member: MemberId, epoch: int, address: ShardAddress | None) -> None:
        record = self._members[member]
        if epoch < record.epoch:
            return  # it has a successor by now; its own death is still to be reported
        record.epoch, record.last_epoch = epoch, 0
        if self._change(member, LifeEvent.SERVE) is not Life.UP:
            self._remove(member, older_than=epoch)
            return
        record.has_served = True
        if address is not None:
            self._admit(address)
        if self.is_up and not self._is_launched:
            self._is_launched = True
            self._effects.append(ReportLaunch())

    def _on_died(self, member: MemberId, epoch: int) -> None:
        state = self._change(member, LifeEvent.DIE)
        if epoch:
            self._remove(member, older_than=epoch + 1)
        if state is Life.STARTING:
            self._effects.append(StartMember(member))
        elif state is Life.WAITING:
            self._order_in(member, self._death_pause_s)

    def _on_start_failed(self, member: MemberId, reason: str) -> None:
        record = self._members[member]
        if self._change(member, LifeEvent.FAIL) is not Life.WAITING:
            return
        if record.has_served:
            self._effects.append(KillMember(member))
            self._order_in(member, self._failure_pause_s)
        else:
            self._change(member, LifeEvent.GIVE_UP)
            self._fail(f"{member} cannot start: {reason}")

    def _order(self, member: MemberId) -> None:
        self._change(member, LifeEvent.ORDER)
        self._effects.append(StartMember(member))

    def _order_in(self, member: MemberId, pause_s: float) -> None:
        self._members[member].order_at_s = self._now_s + pause_s
        self._effects.append(SetTimer(self._members[member].order_at_s))

    def _fail(self, reason: str) -> None:
        if not self._has_failed:
            self._has_failed = True
            self._effects.append(FailLaunch(reason))

    def _change(self, member: MemberId, event: LifeEvent) -> Life:
        record = self._members[member]
        record.state = next_life(record.state, event)
        return record.state

    def _on_ticked(self) -> None:
        if not self._is_map_whole and self._whole_at_s <= self._now_s:
            self._give_out_from_now_on()
        for member, record in self._members.items():
            if record.state is Life.WAITING and record.order_at_s <= self._now_s:
                self._order(member)

    # -- the end ------------------------------------------------------------------------------------------------------
    def _stop(self) -> None:
        if self._is_stopping:
            return
        self._is_stopping = True
        for member in self._members:
            self._change(member, LifeEvent.STOP)
        self._stop_next()

    def _on_stopped(self, member: MemberId) -> None:
        self._change(member, LifeEvent.END)
        if not any(id.role == member.role and r.state is Life.STOPPING for id, r in self._members.items()):
            self._stop_next()

    def _stop_next(self) -> None:
        """Stop the members of the next role, once those of the roles before it have stopped."""
        for role in STOP_ORDER:
            going = [id for id, record in self._members.items() if id.role == role and record.state is Life.STOPPING]
            if going:
                self._effects += map(StopMember, going)
                return
        self._effects.append(ReportStop())

    # -- the slot map -------------------------------------------------------------------------------------------------
    def _admit(self, address: ShardAddress) -> None:
        record = self._members[MemberId("shard", address.shard_id)]
        if address.epoch < record.epoch or record.state >= Life.FAILED:
            return
        record.epoch = address.epoch
        if self.slot_map.shards.get(address.shard_id) != address:
            self._publish(self.slot_map.with_shard(address))

    def _remove(self, member: MemberId, *, older_than: int) -> None:
        if member.role == "shard":
            known = self.slot_map.shards.get(member.number)
            if known is not None and known.epoch < older_than:
                self._publish(self.slot_map.without_shard(member.number))

    def _publish(self, slot_map: SlotMap) -> None:
        self.slot_map = slot_map
        if self._is_map_whole:
            self._answer_askers()
        elif len(slot_map.shards) == self._shard_count:
            self._give_out_from_now_on()

    def _give_out_from_now_on(self) -> None:
        self._is_map_whole = True
        self._answer_askers()

    def _on_map_asked(self, asker: int, newer_than: int) -> None:
        if newer_than > self.slot_map.version:  # the clock was set back since a predecessor took its versions from it
            self._publish(replace(self.slot_map, version=newer_than + 1))
        if not newer_than:
            self._effects.append(AnswerMap(asker, self.slot_map))
            return
        self._askers[asker] = newer_than
        if self._is_map_whole:
            self._answer_askers()

    def _answer_askers(self) -> None:
        for asker, newer_than in list(self._askers.items()):
            if newer_than < self.slot_map.version:
                del self._askers[asker]
                self._effects.append(AnswerMap(asker, self.slot_map))
