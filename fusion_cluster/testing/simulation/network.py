"""The network of a simulation: messages and connections between machines, with their delays, cuts and resets.

A connection is as TCP's: its frames arrive in order, or it ends. A cut loses nothing by itself, because the sender
repeats what was not confirmed: what is sent into a cut arrives after its end. A crashed machine sends nothing, no reset
either. Its successor resets what it does not know.

Invariant: what one machine sends to another over one connection arrives in the order in which it was sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final
from zlib import crc32

from fusion_cluster.errors import RemoteProtocolError
from fusion_cluster.link.carrier import Carrier
from fusion_cluster.testing.simulation.chance import Chance
from fusion_cluster.testing.simulation.loop import SimulatedLoop
from fusion_cluster.testing.simulation.machine import Machine

MAX_WAITING_FRAMES: Final = 64
"""An end is writable while fewer of its frames than this are under way."""

Path = tuple[str, str]
"""The names of the machines that send and receive."""


class Network:
    """All connections and messages of a simulation.

    Args:
        loop: the loop of the machines.
        chance: of the delays.
        least_delay_s: how long a message is on its way, at least.
        most_delay_s: the same at most, unless the path is slow.

    Attributes:
        connections: the open ones: the end of the machine that has dialled, in the order of dialling.
        machines: the machine that has each name now.
        successors_reset: a successor resets the connections of the machine before it.
        sent: how many frames and messages were sent.
        most_waiting: the most frames that were under way from one end of a connection.
    """

    def __init__(
        self, loop: SimulatedLoop, chance: Chance, *, least_delay_s: float = 0.0001, most_delay_s: float = 0.002
    ) -> None:
        self.loop = loop
        self.connections: dict[SimulatedCarrier, None] = {}
        self.machines: dict[str, Machine] = {}
        self.successors_reset = True
        self.sent = self.most_waiting = 0
        self._chance = chance
        self._least_delay_s = least_delay_s
        self._spread_s = most_delay_s - least_delay_s
        # How many cuts lie on a path, and by how much it is slower than others.
        self._cuts: dict[Path, int] = {}
        self._slowness: dict[Path, float] = {}
        # What waits for the end of a cut.
        self._waiting: dict[Path, list[Callable[[], None]]] = {}

    # -- faults --------------------------------------------------------------------------------------------------------
    def cut(self, sender: str, receiver: str) -> None:
        """Let nothing through from one machine to another, in this direction. Cuts add up."""
        self._cuts[sender, receiver] = self._cuts.get((sender, receiver), 0) + 1

    def mend(self, sender: str, receiver: str) -> None:
        """End one cut; with the last, what waits goes on its way."""
        path = sender, receiver
        self._cuts[path] -= 1
        if not self._cuts[path]:
            del self._cuts[path]
            for go_on in self._waiting.pop(path, ()):
                go_on()

    def slow_down(self, sender: str, receiver: str, factor: float) -> None:
        """Make what one machine sends to another take `factor` times as long; 1: as long as usual."""
        self._slowness[sender, receiver] = factor

    def reset(self, one: str, other: str) -> None:
        """Lose all connections between two machines. Each end learns of it at a time of its own."""
        for carrier in list(self.connections):
            if {carrier.machine.name, carrier.other.machine.name} == {one, other}:
                carrier.reset()
                carrier.other.reset()

    def is_cut(self, path: Path) -> bool:
        """Return whether nothing gets through from the first machine to the second."""
        return path in self._cuts

    def wait_for(self, path: Path, go_on: Callable[[], None]) -> None:
        """Call `go_on` at the end of the cut of a path."""
        self._waiting.setdefault(path, []).append(go_on)

    # -- messages ------------------------------------------------------------------------------------------------------
    def delay_s(self, path: Path) -> float:
        """Return how long something that leaves now is on its way."""
        delay_s = self._least_delay_s + self._spread_s * self._chance.random()
        return delay_s * self._slowness.get(path, 1.0)

    def send(self, sender: Machine, receiver: str, deliver: Callable[[Machine], None]) -> None:
        """Call `deliver` on the machine that has a name when the message arrives; messages may overtake each other.

        A message to a machine that does not run is lost.
        """
        path = sender.name, receiver
        self.sent += 1
        if self.is_cut(path):
            self.wait_for(path, lambda: self.send(sender, receiver, deliver))
            return
        loop = self.loop

        def arrive() -> None:
            machine = self.machines.get(receiver)
            if machine is not None and not machine.is_dead:
                loop.call_on(machine, loop.now_s, deliver, machine)

        loop.call_on(loop.outside, loop.now_s + self.delay_s(path), arrive)

    # -- connections ---------------------------------------------------------------------------------------------------
    def connect(self, caller: Machine, listener: Machine) -> tuple[SimulatedCarrier, SimulatedCarrier]:
        """Return the two ends of a new connection: the caller's and the listener's."""
        ours, theirs = SimulatedCarrier(self, caller), SimulatedCarrier(self, listener)
        ours.other, theirs.other = theirs, ours
        self.connections[ours] = None
        return ours, theirs


class SimulatedCarrier(Carrier):
    """One end of a connection.

    Args:
        network: the network of both machines.
        machine: the machine of this end.

    Attributes:
        other: the other end.
    """

    def __init__(self, network: Network, machine: Machine) -> None:
        super().__init__()
        self.machine = machine
        self.other: SimulatedCarrier
        self._network = network
        # What was sent and has not arrived, and when it does; None: the end of all.
        self._under_way: deque[tuple[float, bytes | None]] = deque()
        self._last_s = 0.0
        self._is_scheduled = False
        self._is_held = False
        self._is_closed = self._has_told = self._was_full = False
        self._is_reset = False

    @property
    def is_closed(self) -> bool:
        """Whether this end is closed."""
        return self._is_closed

    @property
    def waiting_count(self) -> int:
        """The number of frames sent from here that have not arrived."""
        return len(self._under_way)

    @property
    def is_writable(self) -> bool:
        """Whether fewer than `MAX_WAITING_FRAMES` are under way."""
        if len(self._under_way) < MAX_WAITING_FRAMES:
            return True
        self._was_full = True
        return False

    # -- sending -------------------------------------------------------------------------------------------------------
    def send(self, frame: bytes) -> None:
        """Send a frame."""
        if not self._is_closed:
            self._network.loop.note(f"{self.machine.number}>{self.other.machine.number} {crc32(frame)}")
            self._put(frame)

    def close(self) -> None:
        """Close this end. The other one gets what was sent before."""
        if not self._is_closed:
            self._is_closed = True
            self._put(None)
            self._network.loop.call_soon(self._tell, None)

    def reset(self) -> None:
        """Lose the connection: what is under way from here is lost, and this end learns of it after a while."""
        self._under_way.clear()
        if not self._is_reset and not self.machine.is_dead:
            self._is_reset = True
            loop, path = self._network.loop, (self.other.machine.name, self.machine.name)
            loop.call_on(self.machine, loop.now_s + self._network.delay_s(path), self._lose)

    def _put(self, frame: bytes | None) -> None:
        network, receiver = self._network, self.other.machine
        if self._is_reset:
            return  # it is lost on its way; the news of the reset comes
        if receiver.is_dead:
            successor = network.machines.get(receiver.name)
            if network.successors_reset and successor is not None and not successor.is_dead:
                self.reset()  # the successor does not know this connection
            return
        path = self.machine.name, receiver.name
        network.sent += 1
        self._last_s = max(self._last_s, network.loop.now_s + network.delay_s(path))
        self._under_way.append((self._last_s, frame))
        network.most_waiting = max(network.most_waiting, len(self._under_way))
        self._schedule()

    def _schedule(self) -> None:
        """Have the oldest frame that is under way from here arrive, unless that is arranged."""
        if self._is_scheduled or not self._under_way or self.other._is_held:
            return
        self._is_scheduled = True
        network = self._network
        path = self.machine.name, self.other.machine.name
        if network.is_cut(path):
            network.wait_for(path, self._go_on)
        else:
            network.loop.call_on(self.other.machine, self._under_way[0][0], self._arrive)

    def _go_on(self) -> None:
        """Send again what has waited for the end of a cut."""
        self._is_scheduled = False
        network = self._network
        again_s = network.loop.now_s + network.delay_s((self.machine.name, self.other.machine.name))
        self._under_way = deque((max(when_s, again_s), frame) for when_s, frame in self._under_way)
        self._last_s = max(self._last_s, again_s)
        self._schedule()

    def _arrive(self) -> None:
        """Deliver at the other end, on its machine, what is there."""
        self._is_scheduled = False
        network, other = self._network, self.other
        if network.is_cut((self.machine.name, other.machine.name)):
            self._schedule()
            return
        while self._under_way and self._under_way[0][0] <= network.loop.now_s and not other._is_held:
            _, frame = self._under_way.popleft()
            other._receive(frame)
        self._schedule()
        if self._was_full and len(self._under_way) < MAX_WAITING_FRAMES and not self._is_closed:
            self._was_full = False
            network.loop.call_on(self.machine, network.loop.now_s, self._become_writable)

    # -- receiving -----------------------------------------------------------------------------------------------------
    def pause_reading(self) -> None:
        """Let what arrives wait in the network."""
        self._is_held = True

    def resume_reading(self) -> None:
        """Take what has waited."""
        self._is_held = False
        self.other._schedule()

    def _receive(self, frame: bytes | None) -> None:
        if frame is None:
            self._is_closed = True
            self._tell(None)
        elif self._is_closed or self._has_told:
            return
        elif len(frame) > self.max_frame_size:
            self._tell(RemoteProtocolError(f"a frame of {len(frame)} bytes is longer than {self.max_frame_size}"))
            self.close()
        else:
            self.on_frame(frame)

    def _become_writable(self) -> None:
        if not self._is_closed:
            self.on_writable()

    def _lose(self) -> None:
        self._is_closed = True
        self._tell(ConnectionResetError("the connection was reset"))

    def _tell(self, error: Exception | None) -> None:
        if not self._has_told:
            self._has_told = True
            self._network.connections.pop(self, None)
            self.on_closed(error)
