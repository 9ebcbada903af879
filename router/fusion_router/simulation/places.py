"""What runs on a simulated machine, and how it and the coordinator know of each other.

Invariant: a coordinator hears of a member by messages only, and of its death once at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from fusion_cluster.protocol.coordination import Event, MemberId, Registered, Stopped
from fusion_cluster.protocol.slot_map import ShardAddress, SlotMap
from fusion_cluster.testing.simulation.machine import Machine
from fusion_router.coordinating import CoordinationLoop, Report
from fusion_router.entrances import Entrance
from fusion_router.host import ClusterHost
from fusion_router.member import Member

Question = Callable[[Callable[[Any], None]], object]
"""Asks a coordination something; it is given what takes the answer."""


class Place:
    """What runs on one machine: a member in one incarnation.

    Attributes:
        id: which member; None: a driver.
        machine: the machine.
        host: the services of the member; None until it has its epoch.
        entrance: takes callers in; None: it has none, or does not yet.
        member: starts and stops it; None until it has its epoch.
        address: its address in the slot map; None for drivers.
        report: takes the reports of its life, for the coordinator that watches it.
        has_served: that coordinator knows that it has served.
        is_lost: the coordinator knows of its death.
        is_up: it has started.
        crashed: done when its machine has crashed.
    """

    def __init__(self, id: MemberId | None, machine: Machine, crashed: asyncio.Future[None]) -> None:
        self.crashed = crashed
        self.id = id
        self.machine = machine
        self.host: ClusterHost | None = None
        self.entrance: Entrance | None = None
        self.member: Member | None = None
        self.address: ShardAddress | None = None
        self.report: Report | None = None
        self.has_served = self.is_lost = self.is_up = False

    @property
    def name(self) -> str:
        """The name of the machine."""
        return self.machine.name


class SimulatedPlane:
    """The control plane of a world (`coordinating.ControlPlane`).

    Args:
        start: starts a shard, or finds the one that runs.
        crash: ends the machine of a name.
    """

    def __init__(self, start: Callable[[MemberId, Report], None], crash: Callable[[str], object]) -> None:
        self._start = start
        self._crash = crash

    def start(self, member: MemberId, report: Report) -> None:
        """Start a shard, or find the one that runs."""
        self._start(member, report)

    def kill(self, member: MemberId) -> None:
        """End the machine of a shard that cannot serve."""
        self._crash(f"shard-{member.number}")

    def stop(self, member: MemberId, report: Callable[[Event], None]) -> None:
        """Report the end: the world stops its members itself."""
        report(Stopped(member))


class SimulatedSlotMaps:
    """The slot maps of one member, from the coordinator (`member.SlotMapSource`).

    Args:
        ask: asks the coordinator, until an answer comes.
        coordination: returns the coordinator of now.
        place: where the member is.
    """

    def __init__(
        self, ask: Callable[[Question], Awaitable[Any]], coordination: Callable[[], CoordinationLoop], place: Place
    ) -> None:
        self._send = ask
        self._coordination = coordination
        self._place = place

    async def join(self, address: str) -> SlotMap:
        """Return the newest map, with this member in it."""
        return await self._ask(0, self._place.address)

    async def follow(self, host: ClusterHost) -> None:
        """Give the host each newer map."""
        while True:
            host.set_slot_map(await self._ask(host.slot_map_version, None))

    async def _ask(self, newer_than: int, address: ShardAddress | None) -> SlotMap:
        def question(answer: Callable[[SlotMap], None]) -> None:
            coordination = self._coordination()
            if address is not None and not self._place.is_lost:
                coordination.report(Registered(address))
            coordination.ask_map(newer_than, answer)

        slot_map: SlotMap = await self._send(question)
        return slot_map
