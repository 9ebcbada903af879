"""The plan of a run: what its cluster is, what is called when, and what breaks when. A seed gives one.

Invariant: what happens in a run follows from its plan alone, so a plan without some of its parts is a plan too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from fusion_cluster.testing.simulation.chance import Chance
from fusion_router.simulation.counters import COUNTERS
from fusion_router.simulation.settings import WorldSettings

_PLAN: Final = 7
"""The stream of chance."""

COORDINATOR: Final = "coordinator"

READS: Final = ("Counters.value", "Groups.total", "Sums.all")
ADD: Final = "Counters.add"

_BEFORE_S: Final = 0.04
"""How long before a fault a read begins whose value the fault may keep from being out of date."""

FAULTS: Final = ("crash", "pause", "cut", "cut one way", "slow", "reset")
"""The kinds of faults."""


@dataclass(frozen=True)
class Operation:
    """A call.

    Attributes:
        at_s: when it begins, in seconds after the launch.
        machine: where.
        method: the full name of a compute method or command of the app.
        argument: its key.
        echoes: reads, as machines and methods, that begin at the moment when the command is confirmed: each of what
            depends on the command's counter.
    """

    at_s: float
    machine: str
    method: str
    argument: int
    echoes: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        then = ", ".join(f"{method} at {machine}" for machine, method in self.echoes)
        call = f"{self.at_s:.4f} s: {self.machine} calls {self.method}({self.argument})"
        return f"{call}, then {then}" if then else call


@dataclass(frozen=True)
class Fault:
    """Something that breaks.

    Attributes:
        at_s: when, in seconds after the launch.
        kind: one of `FAULTS`.
        machine: what breaks; for the network's faults, the sender.
        other: for the network's faults, the receiver.
        lasts_s: after how long it is mended.
    """

    at_s: float
    kind: str
    machine: str
    other: str
    lasts_s: float

    def __str__(self) -> str:
        where = self.machine if self.kind in ("crash", "pause") else f"{self.machine} to {self.other}"
        lasts = "" if self.kind in ("crash", "reset") else f", {self.lasts_s:.4f} s long"
        return f"{self.at_s:.4f} s: {self.kind} {where}{lasts}"


@dataclass(frozen=True)
class Plan:
    """A run.

    Attributes:
        seed: of the chance that remains: which machine goes on, and delays.
        settings: the cluster.
        operations: in the order of their times.
        faults: in the order of their times.
        is_plain: machines take turns in the plain order, and their clocks are exact.
    """

    seed: int
    settings: WorldSettings = field(default_factory=WorldSettings)
    operations: tuple[Operation, ...] = ()
    faults: tuple[Fault, ...] = ()
    is_plain: bool = False

    @property
    def ends_s(self) -> float:
        """When all calls have begun and all faults are mended."""
        return max(
            [0.0, *(operation.at_s for operation in self.operations), *(f.at_s + f.lasts_s for f in self.faults)]
        )

    def __str__(self) -> str:
        steps: list[Operation | Fault] = [*self.operations, *self.faults]
        steps.sort(key=lambda step: step.at_s)
        order = "the plain order" if self.is_plain else "a random order"
        head = f"seed {self.seed}: {self.settings.shards} shards, {self.settings.drivers} drivers, {order}"
        return "\n".join([head, *(f"  {step}" for step in steps)])


Step = TypeVar("Step", Operation, Fault)


def plan_of(seed: int) -> Plan:
    """Return the plan of the standard scenario for a seed.

    Each seed draws what can break in it at all, how dense its calls are and where they begin, so that seeds differ
    more from each other than by luck alone.
    """
    chance = Chance(seed, _PLAN)
    settings = WorldSettings(
        shards=chance.choice((1, 2, 2, 3)),
        drivers=chance.choice((1, 1, 2)),
        max_nodes=chance.choice((10_000, 10_000, 3)),
        successors_reset=chance.happens(0.5),
    )
    maker = _Maker(chance, settings)
    operations = maker.operations(chance.between(3, 8))
    kinds = [kind for kind in FAULTS if chance.happens(0.4)]
    faults = [fault for _ in range(chance.between(0, 3)) for fault in maker.faults(chance.choice(kinds or FAULTS))]
    return Plan(seed, settings, _sorted([*operations, *maker.around_faults]), _sorted(faults))


def _sorted(steps: list[Step]) -> tuple[Step, ...]:
    return tuple(sorted(steps, key=lambda step: step.at_s))


class _Maker:
    """Makes the steps of one plan.

    Attributes:
        around_faults: calls that show what a fault may do.
    """

    def __init__(self, chance: Chance, settings: WorldSettings) -> None:
        self._chance = chance
        self._settings = settings
        self.around_faults: list[Operation] = []
        self._length_s = chance.choice((0.03, 0.3, 1.0))
        self._writes = chance.choice((0.5, 0.7, 0.9))
        self._shards = [f"shard-{number}" for number in range(settings.shards)]
        self._drivers = [f"driver-{number}" for number in range(settings.drivers)]
        self._members = [*self._shards, *self._drivers]

    def operations(self, count: int) -> list[Operation]:
        """Return first reads that fill the graphs, then calls."""
        first = [Operation(0.0, driver, "Sums.all", 0) for driver in self._drivers]
        return [*first, *(self._operation() for _ in range(count))]

    def _operation(self) -> Operation:
        chance = self._chance
        at_s = chance.random() * self._length_s
        machine = chance.choice(self._drivers if chance.happens(0.7) else self._shards)
        if chance.happens(self._writes):
            echoes = [(member, chance.choice(READS)) for member in self._members if chance.happens(0.6)]
            return Operation(at_s, machine, ADD, chance.index(COUNTERS), tuple(echoes))
        return Operation(at_s, machine, chance.choice(READS), chance.index(COUNTERS))

    def faults(self, kind: str) -> list[Fault]:
        """Return a fault of a kind, and for some crashes a cut that keeps the news of it from a driver."""
        chance, lease_s = self._chance, self._settings.read_lease_s
        at_s = chance.random() * self._length_s + _BEFORE_S
        machine = chance.choice([*self._shards, COORDINATOR] if kind == "crash" else self._members)
        other = chance.choice([*(name for name in self._members if name != machine), COORDINATOR])
        lasts_s = 0.0
        if kind not in ("crash", "reset"):
            lasts_s = lease_s * (1 + 2 * chance.random() if chance.happens(0.5) else chance.random())
        faults = [Fault(at_s, kind, machine, other, lasts_s)]
        if kind == "crash" and machine != COORDINATOR and len(self._members) > 2 and chance.happens(0.8):
            driver = chance.choice(self._drivers)
            faults.append(Fault(at_s, "cut", COORDINATOR, driver, lease_s * (1 + 2 * chance.random())))
            self._read_and_change(driver, at_s)
        elif lasts_s > lease_s:
            self._read_and_change(machine, at_s)
        return faults

    def _read_and_change(self, reader: str, at_s: float) -> None:
        """Have a member read something right before a fault, and another one change it soon after."""
        chance, counter = self._chance, self._chance.index(COUNTERS)
        method = chance.choice(("Counters.value", *READS))
        self.around_faults.append(Operation(at_s - _BEFORE_S, reader, method, counter))
        for _ in range(chance.between(2, 3)):
            writer = chance.choice([name for name in self._members if name != reader])
            after_s = at_s + self._settings.read_lease_s * chance.random()
            self.around_faults.append(Operation(after_s, writer, ADD, counter, ((reader, method),)))


Plans = Callable[[int], Plan]
"""Gives the plan of a seed."""
