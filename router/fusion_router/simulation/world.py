"""A world: a whole cluster on simulated machines, with the production code above carriers and control plane.

Its machines are "coordinator", "shard-0", "shard-1", … and "driver-0", …; each runs one member. A crashed shard is
started again by the coordination, on a new machine of the same name, with a new epoch and an empty graph. A crashed
coordinator has a successor, which finds the shards that run.

Invariant: members reach each other, and the coordinator, through the network only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, Final, TypeVar

from fusion_cluster.app import App
from fusion_cluster.errors import ShardUnavailable
from fusion_cluster.link.carrier import Carrier
from fusion_cluster.protocol.coordination import Coordination, Died, MemberId, Served
from fusion_cluster.protocol.slot_map import ShardAddress
from fusion_cluster.testing.simulation.chance import Chance
from fusion_cluster.testing.simulation.loop import new_loop
from fusion_cluster.testing.simulation.machine import Machine
from fusion_cluster.testing.simulation.network import Network
from fusion_router.coordinating import CoordinationLoop, Report
from fusion_router.entrances import Entrance
from fusion_router.host import ClusterHost
from fusion_router.member import Member
from fusion_router.simulation.places import Place, SimulatedPlane, SimulatedSlotMaps
from fusion_router.simulation.settings import WorldSettings

T = TypeVar("T")

SECRET: Final = b"a simulated cluster has no outside"

COORDINATOR: Final = "coordinator"

_SCHEDULER, _NETWORK, _MACHINES, _PLANE = range(1, 5)
"""The streams of chance; those of the machines follow from `_FIRST_MACHINE` on."""

_FIRST_MACHINE: Final = 100

_VERSIONS: Final = 1_000_000
_EPOCHS: Final = 1_000
"""More map versions and epochs than one coordinator hands out: its successor goes on from there."""

_ANSWER_TIMEOUT_S: Final = 1.0
"""After this time without an answer of the coordinator, it is asked again."""


class World:
    """An app on simulated machines.

    Args:
        app: the app. It is not changed, and may serve many worlds, one after the other.
        settings: the cluster and its surroundings.
        seed: of all chance.
        is_plain: machines take turns in the plain order, and no machine has a skewed clock.

    Attributes:
        loop: the event loop of all machines.
        network: what connects them.
        places: what runs, by the name of its machine. A crashed machine stays until its successor begins.
        coordination: the coordinator.
    """

    def __init__(self, app: App, settings: WorldSettings, *, seed: int, is_plain: bool = False) -> None:
        self.app = app
        self.settings = settings
        self.seed = seed
        self.loop = new_loop(None if is_plain else Chance(seed, _SCHEDULER))
        self.network = Network(self.loop, Chance(seed, _NETWORK), most_delay_s=settings.most_delay_s)
        self.network.successors_reset = settings.successors_reset
        self.places: dict[str, Place] = {}
        self.coordination: CoordinationLoop
        self._is_plain = is_plain
        self._clocks = Chance(seed, _MACHINES)
        self._plane_chance = Chance(seed, _PLANE)
        self._coordinator: Machine
        # How many coordinators there were before this one.
        self._predecessors = 0

    # -- the life of the world -----------------------------------------------------------------------------------------
    async def start(self) -> None:
        """Start the coordinator, the shards and the drivers, and wait until all serve."""
        settings = self.settings
        self._coordinator = self._new_machine(COORDINATOR)
        self.loop.run_on(self._coordinator, self._begin_coordination)
        await self.coordination.wait_until_launched()
        for number in range(settings.drivers):
            place = Place(None, self._new_machine(f"driver-{number}"), self.loop.create_future())
            self.places[place.name] = place
            await self.loop.create_task_on(place.machine, self._run_driver(place), name="start a driver")

    async def stop(self) -> None:
        """Stop all members in good order, drivers first."""
        self.coordination.close()
        for of_drivers in (True, False):
            stops = [
                self.loop.create_task_on(place.machine, place.member.stop(), name="stop a member")
                for place in self.running()
                if place.member is not None and (place.id is None) == of_drivers
            ]
            if stops:
                await asyncio.wait(stops)
            for stop in stops:
                stop.result()

    def close(self) -> None:
        """End what is left, without running any more code of the app."""
        for place in self.places.values():
            self.loop.abandon(place.machine)
        self.loop.abandon(self._coordinator)
        self.loop.close()

    def running(self) -> Iterator[Place]:
        """Go through what serves and has not crashed."""
        return (place for place in self.places.values() if place.is_up and not place.machine.is_dead)

    def host(self, name: str) -> ClusterHost:
        """Return the services of what runs on a machine.

        Raises:
            ShardUnavailable: it does not serve now.
        """
        place = self.places.get(name)
        if place is None or place.host is None or not place.is_up or place.machine.is_dead:
            raise ShardUnavailable(f"{name} does not serve")
        return place.host

    async def run(self, name: str, call: Callable[[ClusterHost], Awaitable[T]]) -> T:
        """Run a call of the app on a machine, and return its result.

        Args:
            name: the machine.
            call: is given the services of the member that runs there, and called on its machine.

        Raises:
            ShardUnavailable: nothing serves there now, or the machine has crashed meanwhile.
            Exception: what the call raises.
        """
        host, place = self.host(name), self.places[name]

        async def called() -> T:
            return await call(host)

        task = self.loop.create_task_on(place.machine, called(), name=f"a call at {name}")
        ends: list[asyncio.Future[Any]] = [task, place.crashed]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ShardUnavailable(f"{name} has crashed")
        return task.result()

    async def healed(self, *, timeout_s: float = 60.0) -> None:
        """Wait until all shards serve and every member knows all of them.

        Raises:
            TimeoutError: that takes too long.
        """
        until_s = self.loop.now_s + timeout_s
        for _ in iter(lambda: self.is_whole, True):
            if self.loop.now_s > until_s:
                raise TimeoutError(f"the cluster has not healed within {timeout_s:g} s")
            await asyncio.sleep(0.01)

    @property
    def is_whole(self) -> bool:
        """Whether all shards serve, and every member knows all of them."""
        shards = self.coordination.slot_map.shards
        return (
            not self._coordinator.is_dead
            and self.coordination.coordination.is_up
            and all(place.is_up and not place.machine.is_dead for place in self.places.values())
            and len(shards) == self.settings.shards
            and all(place.host is not None and place.host.slot_map.shards == shards for place in self.running())
        )

    # -- faults --------------------------------------------------------------------------------------------------------
    def crash(self, name: str) -> bool:
        """End the machine of a shard or of the coordinator at once. A successor starts after a while.

        Returns:
            False: it has ended already, or is a driver.
        """
        if name == COORDINATOR:
            return self._crash_coordinator()
        place = self.places[name]
        if place.machine.is_dead or place.id is None:
            return False
        self.loop.crash(place.machine)
        place.crashed.set_result(None)
        later_s = self.loop.now_s + self._plane_chance.uniform(0.01, self.settings.detection_s)
        self.loop.call_on(self._coordinator, later_s, self._on_death, place)
        return True

    def _crash_coordinator(self) -> bool:
        if self._coordinator.is_dead:
            return False
        self.loop.crash(self._coordinator)
        later_s = self.loop.now_s + self._plane_chance.uniform(0.01, self.settings.detection_s + self.settings.boot_s)
        self.loop.call_on(self.loop.outside, later_s, self._succeed_coordinator)
        return True

    def _succeed_coordinator(self) -> None:
        self._coordinator = self._new_machine(COORDINATOR)
        self._predecessors += 1
        self.loop.run_on(self._coordinator, self._begin_coordination)

    def pause(self, name: str) -> None:
        """Stop a machine for now."""
        self.loop.pause(self.places[name].machine)

    def resume(self, name: str) -> None:
        """Let a machine go on."""
        self.loop.resume(self.places[name].machine)

    # -- the control plane ---------------------------------------------------------------------------------------------
    def start_member(self, member: MemberId, report: Report) -> None:
        """Start a shard on a new machine, or find the one that runs; see `ControlPlane.start`."""
        name = f"shard-{member.number}"
        place = self.places.get(name)
        if place is not None and not place.machine.is_dead:
            place.report, place.has_served = report, False
            self.network.send(self._coordinator, name, partial(self._describe_if_up, place))
            return
        place = Place(member, self._new_machine(name), self.loop.create_future())
        place.report = report
        self.places[name] = place
        later_s = self.loop.now_s + self._plane_chance.uniform(0.005, self.settings.boot_s)
        self.loop.call_on(place.machine, later_s, self._boot, place)

    def _describe_if_up(self, place: Place, _: Machine) -> None:
        if place.is_up:
            self._describe(place)

    def _describe(self, place: Place) -> None:
        """Tell the coordinator that a shard serves."""

        def serves(_: Machine) -> None:
            if not place.is_lost and not place.has_served and place.report is not None and place.address is not None:
                place.has_served = True
                place.report(Served(MemberId("shard", place.address.shard_id), place.address.epoch, place.address))

        self.network.send(place.machine, COORDINATOR, serves)

    def _begin_coordination(self) -> None:
        self.coordination = CoordinationLoop(
            Coordination(
                shards=self.settings.shards,
                gateways=0,
                first_version=1 + _VERSIONS * self._predecessors,
                succeeds=self._predecessors > 0,
                last_epoch=_EPOCHS * self._predecessors,
                death_pause_s=0.02,
            ),
            SimulatedPlane(self.start_member, self.crash),
        )
        self.coordination.begin()

    def _on_death(self, place: Place) -> None:
        assert place.id is not None
        assert place.address is not None or not place.has_served
        place.is_lost = True
        epoch = place.address.epoch if place.has_served and place.address is not None else 0
        self.coordination.report(Died(place.id, epoch))

    def _boot(self, place: Place) -> None:
        place.machine.runtime.create_task(self._run_shard(place), name=f"start {place.name}")

    async def _run_shard(self, place: Place) -> None:
        member, machine = place.id, place.machine
        assert member is not None
        epoch = await self.ask(machine, lambda answer: self.coordination.ask_epoch(member, answer))
        place.address = ShardAddress(member.number, place.name, member.number + 1, epoch)
        host = place.host = self._new_host(place, f"{place.name}.{epoch}", shard_id=member.number, epoch=epoch)
        place.entrance = Entrance(host, secret=SECRET)
        place.member = Member(
            host,
            entrances=[place.entrance],
            slot_maps=SimulatedSlotMaps(partial(self.ask, place.machine), lambda: self.coordination, place),
            grace_s=0.0,
        )
        await place.member.start()
        place.is_up = True
        self._describe(place)

    async def _run_driver(self, place: Place) -> None:
        host = place.host = self._new_host(place, place.name)
        place.member = Member(
            host,
            slot_maps=SimulatedSlotMaps(partial(self.ask, place.machine), lambda: self.coordination, place),
            grace_s=0.0,
        )
        await place.member.start()
        place.is_up = True

    def _new_machine(self, name: str) -> Machine:
        number = self.loop.machine_count
        settings = self.settings
        is_exact = self._is_plain or name == COORDINATOR
        machine = self.loop.new_machine(
            name,
            Chance(self.seed, _FIRST_MACHINE + number),
            skew_s=0.0 if is_exact else self._clocks.uniform(0.0, settings.skew_s),
            rate=1.0 if is_exact else 1.0 + self._clocks.uniform(-settings.drift, settings.drift),
        )
        self.network.machines[name] = machine
        return machine

    def _new_host(self, place: Place, peer_id: str, *, shard_id: int | None = None, epoch: int = 0) -> ClusterHost:
        settings = self.settings
        return ClusterHost(
            self.app,
            dial=partial(self._dial, place.machine),
            peer_id=peer_id,
            secret=SECRET,
            shard_id=shard_id,
            epoch=epoch,
            read_lease_s=settings.read_lease_s,
            call_timeout_s=settings.call_timeout_s,
            max_nodes=settings.max_nodes,
            runtime=place.machine.runtime,
        )

    # -- messages ------------------------------------------------------------------------------------------------------
    async def ask(self, machine: Machine, question: Callable[[Callable[[Any], None]], object]) -> Any:
        """Ask the coordinator something from a machine, again and again until an answer comes.

        Args:
            machine: the machine that asks.
            question: asks the coordination; it is called on the coordinator's machine, with what takes the answer.
        """
        while True:
            answered: asyncio.Future[Any] = self.loop.create_future()
            self.network.send(machine, COORDINATOR, partial(self._ask_here, question, machine, answered))
            await asyncio.wait([answered], timeout=_ANSWER_TIMEOUT_S)
            if answered.done():
                return answered.result()

    def _ask_here(
        self,
        question: Callable[[Callable[[Any], None]], object],
        machine: Machine,
        answered: asyncio.Future[Any],
        coordinator: Machine,
    ) -> None:
        def arrive(value: Any, at: Machine) -> None:
            if at is machine and not answered.done():
                answered.set_result(value)

        question(lambda value: self.network.send(coordinator, machine.name, partial(arrive, value)))

    async def _dial(self, caller: Machine, address: ShardAddress) -> Carrier:
        dialled: asyncio.Future[Carrier | None] = self.loop.create_future()
        network = self.network

        def arrive(carrier: Carrier | None, at: Machine) -> None:
            if at is caller and not dialled.done():
                dialled.set_result(carrier)

        def accept(listener: Machine) -> None:
            ours: Carrier | None = None
            place = self.places[address.host]
            if place.machine is listener and place.address == address and place.entrance is not None:
                ours, theirs = network.connect(caller, listener)
                place.entrance.accept(theirs)
            network.send(listener, caller.name, partial(arrive, ours))

        if address.host not in network.machines or network.machines[address.host].is_dead:
            network.send(caller, caller.name, partial(arrive, None))  # as a machine refuses whose process has ended
        else:
            network.send(caller, address.host, accept)
        carrier = await dialled
        if carrier is None:
            raise ConnectionRefusedError(f"{address} does not run")
        return carrier
