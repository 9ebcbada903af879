"""The freshness barrier over random clusters: in whatever order messages come, once it is settled nobody is stale."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict, deque
from collections.abc import Callable
from functools import partial

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusion_router.barrier import Barrier, Barriers, Confirmations

Node = tuple[int, int]  # process, key


class SimulatedSession:
    """A session from an owner process to a subscriber process: two FIFO channels of thunks."""

    heard_s_ago = 0.0

    def __init__(self, world: World, owner: int, subscriber: int) -> None:
        self.world, self.owner, self.subscriber = world, owner, subscriber
        self.confirmations = Confirmations(self)

    def send_barrier(self, barrier: int) -> None:
        def arrive() -> None:
            def answer(confirms: bool) -> None:
                mark_answered = self.world.barriers[self.owner].mark_answered
                message = partial(mark_answered, self.confirmations, barrier, confirms=confirms)
                self.world.send((self.subscriber, self.owner, "up"), message)

            self.world.barriers[self.subscriber].reached(barrier, answer)

        self.world.send((self.owner, self.subscriber, "down"), arrive)

    def send_invalidated(self, node: Node) -> None:
        self.confirmations.owe()
        self.world.send(
            (self.owner, self.subscriber, "down"), lambda: self.world.invalidate((self.subscriber, node[1]))
        )

    def drop(self) -> None:
        raise AssertionError("nobody is silent here")


class World:
    """Processes with replicas of each other's keys, and the messages in flight between them."""

    def __init__(self, rng: random.Random, processes: int, keys: int) -> None:
        self.rng = rng
        self.barriers = [Barriers(read_lease_s=60.0) for _ in range(processes)]
        self.channels: defaultdict[tuple[int, int, str], deque[Callable[[], object]]] = defaultdict(deque)
        self.sessions: dict[tuple[int, int], SimulatedSession] = {}
        self.is_valid: dict[Node, bool] = {(p, k): True for p in range(processes) for k in range(keys)}
        # What is invalidated with a node: dependents in its own process, replicas in others.
        self.local: defaultdict[Node, set[Node]] = defaultdict(set)
        self.replicas: defaultdict[Node, set[int]] = defaultdict(set)
        # Who has subscribed to a node and not been told, nor left.
        self.subscribed: defaultdict[Node, set[int]] = defaultdict(set)
        for process in range(processes):
            for key in range(keys):
                for other in range(key + 1, keys):
                    if rng.random() < 0.5:
                        self.local[process, key].add((process, other))
                for subscriber in range(processes):
                    if subscriber != process and key % processes == process and rng.random() < 0.6:
                        self.replicas[process, key].add(subscriber)
                        self.subscribed[process, key].add(subscriber)
                        self.session(process, subscriber)

    def session(self, owner: int, subscriber: int) -> SimulatedSession:
        if (owner, subscriber) not in self.sessions:
            session = self.sessions[owner, subscriber] = SimulatedSession(self, owner, subscriber)
            self.barriers[owner].add(session.confirmations)
        return self.sessions[owner, subscriber]

    def send(self, channel: tuple[int, int, str], message: Callable[[], object]) -> None:
        self.channels[channel].append(message)

    def invalidate(self, node: Node) -> None:
        if not self.is_valid[node]:
            return
        self.is_valid[node] = False
        for subscriber in self.subscribed.pop(node, ()):
            self.session(node[0], subscriber).send_invalidated(node)
        for dependent in self.local[node]:
            self.invalidate(dependent)

    def evict(self, process: int) -> int | None:
        """A process gives up a replica by itself, for whatever reason, and its subscription with it; which key's."""
        held = [node for node, subscribers in self.subscribed.items() if process in subscribers]
        if not held:
            return None
        owner, key = self.rng.choice(sorted(held))
        self.invalidate((process, key))

        def unsubscribe() -> None:
            if process in self.subscribed[owner, key]:
                self.subscribed[owner, key].discard(process)
                self.session(owner, process).confirmations.owe()

        self.send((process, owner, "up"), unsubscribe)
        return key

    def everything_beneath(self, roots: list[Node]) -> set[Node]:
        found: set[Node] = set()
        stack = list(roots)
        while stack:
            node = stack.pop()
            if node not in found:
                found.add(node)
                stack.extend(self.local[node])
                stack.extend((subscriber, node[1]) for subscriber in self.replicas[node])
        return found

    def deliver_one(self) -> bool:
        ready = [channel for channel, messages in self.channels.items() if messages]
        if not ready:
            return False
        self.channels[self.rng.choice(ready)].popleft()()
        return True

    def command(self, root: int, nodes: list[Node]) -> Barrier:
        """What `Publications.publish` does: invalidate here, tell the other owners, pass the barrier on."""
        with self.barriers[root].begin() as barrier:
            for node in nodes:
                if node[0] == root:
                    self.invalidate(node)
                else:
                    barrier.told()
                    self.send((root, node[0], "request"), partial(self.request, root, node, barrier))
        return barrier

    def request(self, root: int, node: Node, barrier: Barrier) -> None:
        self.invalidate(node)

        def answer(_: bool) -> None:
            self.send((node[0], root, "reply"), barrier.answered)

        self.barriers[node[0]].requested(barrier.number, answer)


def simulate(seed: int) -> None:
    rng = random.Random(seed)
    processes, keys = rng.randint(2, 4), rng.randint(2, 8)
    world = World(rng, processes, keys)
    outstanding: list[tuple[Barrier, list[Node]]] = []
    evicted: int | None = None

    def check_settled() -> None:
        """Look at what has settled in this step, before the next one can hide that it was too early."""
        for entry in [entry for entry in outstanding if entry[0].settled.done()]:
            outstanding.remove(entry)
            stale = [node for node in world.everything_beneath(entry[1]) if world.is_valid[node]]
            assert not stale, f"seed {seed}: settled while {stale} would still be served"

    for _ in range(rng.randint(2, 20)):
        changed = rng.sample(range(keys), rng.randint(1, min(3, keys)))
        if evicted is not None and rng.random() < 0.7:
            changed = [evicted]  # what was given up a moment ago changes: nobody is subscribed any more
        nodes = [(key % processes, key) for key in changed]
        if rng.random() < 0.2:
            world.invalidate(nodes[0])  # a plain invalidation, whose pushes may still be on their way
            continue
        if rng.random() < 0.5:
            evicted = world.evict(rng.randrange(processes))
            for _ in range(rng.randint(0, 2)):
                world.deliver_one()
                check_settled()
            continue
        outstanding.append((world.command(rng.randrange(processes), nodes), nodes))
        check_settled()
        for _ in range(rng.randint(0, 10)):
            world.deliver_one()
            check_settled()
    while world.deliver_one():
        check_settled()
    assert not outstanding, f"seed {seed}: {len(outstanding)} commands wait for ever"
    for barriers in world.barriers:
        barriers.close()


@given(seed=st.integers(0, 2**32))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_settled_barrier_means_that_no_replica_beneath_is_served(seed: int) -> None:
    async def run() -> None:
        simulate(seed)

    asyncio.run(run())


async def test_a_thousand_seeds_settle_and_are_never_stale() -> None:
    for seed in range(1000):
        simulate(seed)
