"""One run: a plan is carried out in a world, everything is checked, and the world is closed.

Invariant: two runs of one plan are the same run, step by step, in any process; `Outcome.trace_hash` shows it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any, Final

from fusion_cluster.errors import InvariantViolation
from fusion_cluster.testing.simulation.chance import Chance
from fusion_cluster.testing.simulation.network import MAX_WAITING_FRAMES
from fusion_router.host import ClusterHost
from fusion_router.simulation.counters import IN_GROUP, Counters, Store, app, reading
from fusion_router.simulation.ledger import Ledger
from fusion_router.simulation.places import Place
from fusion_router.simulation.plan import ADD, Fault, Operation, Plan
from fusion_router.simulation.quiet import errors_of_logs, without_garbage_collection
from fusion_router.simulation.world import World

_STORE: Final = 8
"""The stream of chance of the store."""

SLACK_S: Final = 1.0
"""By how much a call may end later than its time: timers are checked now and then."""


@dataclass(frozen=True)
class Outcome:
    """What a run has shown.

    Attributes:
        plan: the plan.
        violations: what was wrong; empty: nothing was.
        trace_hash: a digest of each step of the run.
        steps: how many there were.
        reads: how many reads were checked.
        changes: how many commands were confirmed.
        failures: how many calls ended with an error that is expected while machines and links fail.
        simulated_s: how long the run lasted, on its own clock.
    """

    plan: Plan
    violations: tuple[str, ...]
    trace_hash: str
    steps: int
    reads: int
    changes: int
    failures: int
    simulated_s: float


def run_plan(plan: Plan) -> Outcome:
    """Carry a plan out."""
    with without_garbage_collection(), errors_of_logs() as logged:
        world = World(app, plan.settings, seed=plan.seed, is_plain=plan.is_plain)
        run = Run(world, plan)
        try:
            world.loop.run(run.main())
        except Exception as error:  # the simulation cannot go on: that is a finding, too
            run.ledger.violated(f"the run ended with {error!r}")
        for context in world.loop.errors:
            run.ledger.violated(f"nobody caught {context.get('exception') or context.get('message')!r}")
        for text in logged:
            run.ledger.violated(f"logged as an error: {text}")
        ledger = run.ledger
        outcome = Outcome(
            *(plan, tuple(ledger.violations), world.loop.trace_hash, world.loop.steps),
            *(ledger.reads, ledger.changes, ledger.failures, world.loop.now_s),
        )
        world.close()  # tasks that are ended may still call the ledger: what they say does not count
    return outcome


class Run:
    """One run.

    Args:
        world: the world, which has not started.
        plan: what to do in it.

    Attributes:
        ledger: the calls, and what was wrong.
    """

    def __init__(self, world: World, plan: Plan) -> None:
        self._world = world
        self._plan = plan
        store = Counters.store = Store(Chance(plan.seed, _STORE))
        self.ledger = Ledger(store, world.loop.note)
        # Call → the machine where it runs.
        self._calls: dict[asyncio.Task[None], Place] = {}

    async def main(self) -> None:
        """Carry the plan out, and check everything."""
        world, plan, loop = self._world, self._plan, self._world.loop
        await world.start()
        began_s = loop.now_s
        for index, operation in enumerate(plan.operations):
            loop.call_on(loop.outside, began_s + operation.at_s, self._begin, operation, index)
        for fault in plan.faults:
            loop.call_on(loop.outside, began_s + fault.at_s, self._break, fault)
        await asyncio.sleep(plan.ends_s + 0.001)
        await self._wait_for_calls()
        await self._wait_until_whole()
        await self._check_after_quiet()
        self._check_members()
        await world.stop()
        self._check_left()
        self.ledger.check_changes()

    # -- calls ---------------------------------------------------------------------------------------------------------
    def _begin(self, operation: Operation, index: int) -> None:
        place = self._world.places[operation.machine]
        if place.machine.is_dead or not place.is_up:
            return
        what = f"{operation.method}({operation.argument}) at {place.name} as call {index}"
        if operation.method == ADD:
            self._start(place, what, self._add(place, operation, what, f"{index}"))
        else:
            self._start(place, what, self._read(place, what, operation.method, operation.argument))

    def _start(self, place: Place, what: str, call: Coroutine[Any, Any, None]) -> None:
        self._calls[self._world.loop.create_task_on(place.machine, call, name=what)] = place

    async def _read(self, place: Place, what: str, method: str, argument: int) -> None:
        assert place.host is not None
        least = self.ledger.least(method, argument)
        try:
            value = await reading(place.host, method, argument)
        except Exception as error:
            self.ledger.has_failed(what, error)
        else:
            self.ledger.was_read(what, method, argument, least, value)

    async def _add(self, place: Place, operation: Operation, what: str, number: str) -> None:
        assert place.host is not None
        try:
            await place.host.service(Counters).add(operation.argument, number)
        except Exception as error:
            self.ledger.has_failed(what, error)
        else:
            self.ledger.was_changed(what, number, operation.argument)
            self._look_everywhere(f"after call {number}")
            self._echo(operation, number)

    def _look_everywhere(self, when: str, *, is_quiet: bool = False) -> None:
        """Check each value that a member would serve now: what a hit there would give."""
        for place in self._world.running():
            if place.host is not None and not place.machine.is_paused:
                self._world.loop.run_on(place.machine, self._look, place.host, f"at {place.name} {when}", is_quiet)

    def _look(self, host: ClusterHost, where: str, is_quiet: bool) -> None:
        for name, function in host.graph.functions.items():
            # In an order that is the same for the registries in C and in Python.
            for node in sorted(function.all_nodes(), key=attrgetter("arguments")):
                if not node.is_consistent or node.error is not None:
                    continue
                counter = node.arguments[0] * (IN_GROUP if name == "Groups.total" else 1)
                what = f"a hit of {name}{node.arguments} {where}"
                least = self.ledger.stored(name, counter) if is_quiet else self.ledger.least(name, counter)
                self.ledger.was_read(what, name, counter, least, node.value, is_quiet=is_quiet)

    def _echo(self, operation: Operation, number: str) -> None:
        """Begin to read at once what depends on a counter: nobody may have an old value any more."""
        for machine, method in operation.echoes:
            place = self._world.places[machine]
            if place.is_up and not place.machine.is_dead:
                what = f"{method}({operation.argument}) at {machine} after call {number}"
                self._start(place, what, self._read(place, what, method, operation.argument))

    async def _wait_for_calls(self) -> None:
        """Wait for the calls on machines that live, no longer than a call may take."""
        until_s = self._world.loop.now_s + self._plan.settings.call_timeout_s * 1.1 + SLACK_S
        while (left_s := until_s - self._world.loop.now_s) > 0 and (running := self._running_calls()):
            await asyncio.wait(running, timeout=left_s)  # some begin others when they end
        self.ledger.check_ended([call.get_name() for call in self._running_calls()])

    def _running_calls(self) -> list[asyncio.Task[None]]:
        return [call for call, place in self._calls.items() if not call.done() and not place.machine.is_dead]

    # -- faults --------------------------------------------------------------------------------------------------------
    def _break(self, fault: Fault) -> None:
        world, network = self._world, self._world.network
        world.loop.note(str(fault))
        self._check_owners()
        machine, other = fault.machine, fault.other
        mend: list[partial[Any]] = []
        match fault.kind:
            case "crash":
                world.crash(machine)
            case "pause":
                place = world.places[machine]
                if place.is_up and not place.machine.is_dead:  # its first step when it goes on is a read
                    what = f"Sums.all(0) at {machine} after a pause"
                    self._start(place, what, self._read(place, what, "Sums.all", 0))
                machine_now = place.machine
                world.loop.pause(machine_now)
                mend.append(partial(world.loop.resume, machine_now))
            case "cut" | "cut one way":
                for path in ((machine, other), (other, machine))[: 2 if fault.kind == "cut" else 1]:
                    network.cut(*path)
                    mend.append(partial(network.mend, *path))
            case "slow":
                network.slow_down(machine, other, 100.0)
                mend.append(partial(network.slow_down, machine, other, 1.0))
            case "reset":
                network.reset(machine, other)
        for step in mend:
            world.loop.call_on(world.loop.outside, world.loop.now_s + fault.lasts_s, step)

    # -- checks of the whole -------------------------------------------------------------------------------------------
    async def _wait_until_whole(self) -> None:
        try:
            await self._world.healed(timeout_s=10.0)
        except TimeoutError as error:
            self.ledger.violated(f"not whole: {error}")

    async def _check_after_quiet(self) -> None:
        """See what members would serve when nothing is under way any more, and read: all must be what is stored."""
        await asyncio.sleep(self._plan.settings.read_lease_s * 0.3)
        self._look_everywhere("when all is quiet", is_quiet=True)
        places = list(self._world.running())
        loop = self._world.loop
        reads = [loop.create_task_on(place.machine, self._read_sum(place), name="read the sum") for place in places]
        await asyncio.wait(reads, timeout=2 * self._plan.settings.call_timeout_s)
        self.ledger.check_ended([f"the last reads at {place.name}" for place, read in zip(places, reads, strict=True)
                                 if not read.done()])  # fmt: skip
        for read in reads:
            if read.done():
                read.result()
        await asyncio.sleep(self._plan.settings.read_lease_s * 0.3)  # what was evicted is unsubscribed now

    async def _read_sum(self, place: Place) -> None:
        assert place.host is not None
        what = f"the last read of Sums.all(0) at {place.name}"
        try:
            value = await reading(place.host, "Sums.all", 0)
        except Exception as error:
            self.ledger.violated(f"unexpected error: {what} raised {error!r} in a quiet cluster")
        else:
            self.ledger.was_read(what, "Sums.all", 0, self.ledger.stored("Sums.all", 0), value, is_quiet=True)

    def _check_members(self) -> None:
        """Check that each slot has one owner, graphs are valid, and both ends of each link agree on what is read."""
        self._check_owners()
        for place in self._world.running():
            assert place.host is not None
            try:
                place.host.graph.validate()
            except InvariantViolation as error:
                self.ledger.violated(f"invalid: the graph of {place.name}: {error}")
            self._check_sessions(place)
        if self._world.network.most_waiting > 2 * MAX_WAITING_FRAMES:
            self.ledger.violated(f"unbounded: {self._world.network.most_waiting} frames were under way on one link")

    def _check_owners(self) -> None:
        """Check that no two members serve one slot now."""
        hosts = [place.host for place in self._world.running() if place.id is not None and place.host is not None]
        if len({host.shard_id for host in hosts}) == len(hosts) and all(
            host.slot_map.owners == hosts[0].slot_map.owners for host in hosts
        ):
            return  # the usual case, which needs no look at each slot
        taken = 0
        for host in hosts:
            owned = int.from_bytes(host.owned_slots() or b"")
            if owned & taken:
                self.ledger.violated(f"two owners: {host.peer_id} serves slots that another member serves")
            taken |= owned

    def _check_sessions(self, place: Place) -> None:
        if place.entrance is None:
            return
        for session in place.entrance.acceptor.sessions:
            name = session.peer_id.split(".")[0]
            caller = self._world.places.get(name)
            if caller is None or caller.host is None or caller.host.peer_id != session.peer_id:
                continue  # an incarnation that has ended
            assert place.id is not None
            peer = caller.host.links.peer(place.id.number)
            if peer is None or not session.is_attached or not peer.is_connected:
                continue
            replicas = self._replicas(caller.host, place.id.number)
            if not replicas == peer.subscription_count == session.subscription_count:
                self.ledger.violated(
                    f"asymmetric: {name} has {replicas} replicas and {peer.subscription_count} subscriptions from "
                    f"{place.name}, which knows of {session.subscription_count}"
                )

    @staticmethod
    def _replicas(host: ClusterHost, shard_id: int) -> int:
        """Return how many replicas of values of a shard a member has."""
        owner_of = host.ownership.owner_of_slot
        return sum(
            node.is_consistent and owner_of(function.method.slot(node.arguments)) == shard_id
            for function in host.graph.functions.values()
            for node in function.all_nodes()
        )

    def _check_left(self) -> None:
        """Check that members that were stopped have left nothing behind."""
        for place in self._world.running():
            left = [task.get_name() for task in place.machine.tasks if not task.done()]
            if left:
                self.ledger.violated(f"left behind: {place.name} was stopped and still has {left}")
