"""Edge chasing over random computations of several processes: each cycle is broken, and what is no cycle is not."""

from __future__ import annotations

import random
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_cluster.protocol.edge_chasing import Break, Probe, Way, on_arrival, probe_from


@dataclass(eq=False)
class Computed:
    """A key as one process knows it: computed there, or a replica of what its owner computes."""

    process: int
    key: int
    reads: list[int] = field(default_factory=list)
    waits: dict[Computed, None] = field(default_factory=dict)
    waiters: dict[Computed, None] = field(default_factory=dict)
    is_done: bool = False
    wait: int = 0
    """Of a replica: the number of its wait, from when it begins until it is answered or given up."""
    asked: Computed | None = None
    """What the owner computes for it, from when the call has come there."""
    is_answered: bool = False
    """The owner has answered; the answer may be on its way."""
    origins: set[tuple[int, int]] = field(default_factory=set)


class World:
    """Processes with computations, and the messages in flight between them, in order for each pair."""

    def __init__(self, rng: random.Random, processes: int, keys: int, *, gives_up: bool) -> None:
        self.rng, self.processes, self.gives_up = rng, processes, gives_up
        self.ways = {key: rng.sample(range(keys), rng.randint(0, min(3, keys))) for key in range(keys)}
        self.current: dict[tuple[int, int], Computed] = {}
        self.waits: dict[int, Computed] = {}
        self.channels: defaultdict[tuple[int, int], deque[Callable[[], None]]] = defaultdict(deque)
        self.work: list[Callable[[], None]] = []
        self.all: list[Computed] = []
        self.ranks = rng.sample(range(1, keys + 1), keys)
        self.ever_in_a_cycle: set[tuple[Computed, Computed]] = set()
        self.broken: list[tuple[Computed, Computed]] = []
        self.last_wait = 0

    # -- computations --------------------------------------------------------------------------------------------------
    def begin(self, process: int, key: int) -> Computed:
        node = self.current.get((process, key))
        if node is None or node.is_done:
            node = self.current[process, key] = Computed(process, key)
            self.all.append(node)
            if key % self.processes == process:
                node.reads = list(self.ways[key])
                self.work.append(partial(self.step, node))
            else:
                self.ask(node)
        return node

    def ask(self, node: Computed) -> None:
        self.last_wait += 1
        node.wait = self.rng.getrandbits(48) * 10_000 + self.last_wait
        self.waits[node.wait] = node
        owner = node.key % self.processes
        self.send(node.process, owner, partial(self.on_call, node, node.wait))
        self.work.append(partial(self.probe, node, node.wait))

    def on_call(self, node: Computed, wait: int) -> None:
        if node.wait == wait:
            asked = self.begin(node.key % self.processes, node.key)
            node.asked = asked
            if asked.is_done:
                self.answer(node, wait)

    def answer(self, node: Computed, wait: int) -> None:
        node.is_answered = True
        self.send(node.key % self.processes, node.process, partial(self.on_answer, node, wait))

    def on_answer(self, node: Computed, wait: int) -> None:
        if node.wait == wait:
            self.end(node)

    def step(self, node: Computed) -> None:
        """A body goes on: it reads the next keys, one or all at once, or ends."""
        if node.is_done or node.waits:
            return
        if not node.reads:
            self.end(node)
            return
        count = self.rng.choice((1, len(node.reads)))
        reads, node.reads = node.reads[:count], node.reads[count:]
        for key in reads:
            self.join(node, self.begin(node.process, key))
        self.work.append(partial(self.step, node))

    def join(self, node: Computed, awaited: Computed) -> None:
        if awaited.is_done or node in self.reachable_here(awaited):
            return  # a cycle within one process is refused there
        node.waits[awaited] = None
        awaited.waiters[node] = None
        for beneath in self.reachable_here(awaited):
            if beneath.wait:
                self.work.append(partial(self.probe, beneath, beneath.wait))

    def end(self, node: Computed) -> None:
        node.is_done = True
        self.waits.pop(node.wait, None)
        node.wait = 0
        for waiter in node.waiters:
            waiter.waits.pop(node, None)
            self.work.append(partial(self.step, waiter))
        node.waiters.clear()
        for replica in self.all:
            if replica.asked is node and replica.wait and not replica.is_answered:
                self.answer(replica, replica.wait)

    def give_up(self) -> None:
        """Some body ceases to wait for something, and goes on."""
        waiting = [node for node in self.all if node.waits and not node.wait]
        if not waiting:
            return
        node = self.rng.choice(waiting)
        awaited = self.rng.choice(list(node.waits))
        del node.waits[awaited]
        del awaited.waiters[node]
        self.work.append(partial(self.step, node))

    # -- probes --------------------------------------------------------------------------------------------------------
    def send(self, sender: int, receiver: int, message: Callable[[], None]) -> None:
        self.channels[sender, receiver].append(message)

    def probe(self, node: Computed, wait: int) -> None:
        if node.wait == wait:
            self.last_wait += 1
            self.travel(probe_from(wait, self.last_wait))

    def travel(self, probe: Probe) -> None:
        node = self.waits[probe.travels_along]
        if not probe.confirmed:
            origin = (probe.hops[0].wait, probe.number)
            if origin in node.origins:
                return
            node.origins.add(origin)
        self.send(node.process, node.key % self.processes, partial(self.on_probe, node, node.wait, probe))

    def on_probe(self, node: Computed, wait: int, probe: Probe) -> None:
        if node.wait != wait or node.asked is None or node.is_answered or node.asked.is_done:
            return
        paths = {path[-1].wait: path for path in self.paths_from(node.asked) if path[-1].wait}
        reach = {
            onward: Way([f"key {step.key}" for step in path[:-1]], min(self.ranks[step.key] for step in path[1:]))
            for onward, path in paths.items()
        }
        for decision in on_arrival(probe, reach):
            if isinstance(decision, Break):
                self.refuse(paths[decision.wait], decision.rank)
                for path in paths.values():
                    self.work.append(partial(self.probe, path[-1], path[-1].wait))
                return
            self.travel(decision.probe)

    def refuse(self, path: list[Computed], rank: int | None) -> None:
        index = len(path) - 1 if rank is None else [self.ranks[step.key] for step in path].index(rank, 1)
        dependent, awaited = path[index - 1 : index + 1]
        assert (dependent, awaited) in self.ever_in_a_cycle, "refused, but never part of a cycle"
        self.broken.append((dependent, awaited))
        del dependent.waits[awaited]
        del awaited.waiters[dependent]
        self.work.append(partial(self.step, dependent))

    # -- the truth -----------------------------------------------------------------------------------------------------
    def reachable_here(self, start: Computed) -> dict[Computed, None]:
        return {path[-1]: None for path in self.paths_from(start)}

    def paths_from(self, start: Computed) -> list[list[Computed]]:
        """One path to each computation of the process that `start` waits for, itself included."""
        found = {start: [start]}
        stack = [start]
        while stack:
            node = stack.pop()
            for awaited in node.waits:
                if awaited not in found:
                    found[awaited] = [*found[node], awaited]
                    stack.append(awaited)
        return list(found.values())

    def beyond(self, node: Computed) -> Iterator[Computed]:
        """What a computation waits for, wherever that is."""
        yield from node.waits
        if node.wait and node.asked is not None and not node.is_answered and not node.asked.is_done:
            yield node.asked

    def note_cycles(self) -> None:
        for edge in [(node, awaited) for node in self.all for awaited in node.waits]:
            if edge in self.ever_in_a_cycle:
                continue
            node, awaited = edge
            stack, seen = [awaited], {awaited}
            while stack:
                following = stack.pop()
                if following is node:
                    self.ever_in_a_cycle.add(edge)
                    break
                for beyond in self.beyond(following):
                    if beyond not in seen:
                        seen.add(beyond)
                        stack.append(beyond)

    # -- the run -------------------------------------------------------------------------------------------------------
    def turn(self) -> bool:
        ready = [channel for channel, messages in self.channels.items() if messages]
        if not ready and not self.work:
            return False
        if self.gives_up and self.rng.random() < 0.05:
            self.give_up()
        elif self.work and (not ready or self.rng.random() < 0.5):
            self.work.pop(self.rng.randrange(len(self.work)))()
        else:
            self.channels[self.rng.choice(ready)].popleft()()
        self.note_cycles()
        return True


def simulate(seed: int) -> World:
    rng = random.Random(seed)
    world = World(rng, rng.randint(2, 4), rng.randint(2, 9), gives_up=rng.random() < 0.5)
    for key in world.ways:
        if rng.random() < 0.7:
            world.begin(rng.randrange(world.processes), key)
    turns = 0
    while world.turn():
        turns += 1
        assert turns < 50_000, f"seed {seed}: probes without end"
    waiting = [node for node in world.all if not node.is_done]
    assert not waiting, f"seed {seed}: {len(waiting)} computations wait for ever"
    assert len(world.broken) == len(set(world.broken))
    return world


@given(seed=st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_each_cycle_is_broken_and_nothing_else(seed: int) -> None:
    simulate(seed)


def test_hundreds_of_seeds() -> None:
    worlds = [simulate(seed) for seed in range(400)]
    assert sum(bool(world.ever_in_a_cycle) for world in worlds) > 80
    calm = [world for world in worlds if not world.ever_in_a_cycle]
    assert len(calm) > 40
    assert not any(world.broken for world in calm)
