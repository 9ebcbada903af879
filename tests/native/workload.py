"""A graph's life at random, with all that users can do to it and much that they should not; bounded, and seeded.

    python -m tests.native.workload --seeds 20 --steps 300

It asserts little beyond the graph's own invariants: it is there for a run under a sanitizer or a debugging allocator.
Keys whose `__eq__` and `__hash__`, values whose `__del__`, and observers that reach back into the graph while it is
busy with them are where an extension in C goes wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import math
import random
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from fusion_cluster.bodies.attaching import attach
from fusion_cluster.errors import FusionError, UsageError
from fusion_cluster.graph import Computed, Graph, GraphHosting, gather
from fusion_cluster.testing import run_in_virtual_time
from tests.native.odd_sheet import EXPECTED, NUMBERS, Parting, Reentrant, Sheet, Touchy


class Life:
    """One graph from its first read to its end."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.graph = Graph(
            max_nodes=self.chance.choice((1, 2, 7, 30, 10_000)),
            max_bytes=self.chance.choice((math.inf, math.inf, 1_500, 5_000)),
            history=self.chance.choice((0, 3, 4096)),
        )
        self.sheet = Sheet(self.chance)
        attach(self.sheet, GraphHosting(self.graph))
        self.held: list[Computed[Any]] = []
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self.steps: list[Callable[[], object]] = [
            self.read, self.read, self.read_many, self.start, self.start, self.cancel, self.invalidate, self.invalidate,
            self.invalidate_by_call, self.hold, self.let_go, self.observe, self.stop_observing, self.wait, self.update,
            self.follow, self.drive_by_hand, self.join, self.look, self.look, self.assign, self.refuse, self.collect,
            self.from_another_thread, self.check,
        ]  # fmt: skip

    async def run(self, steps: int) -> None:
        gc.set_threshold(self.chance.choice((1, 10, 700)))
        for _ in range(steps):
            step = self.chance.choice(self.steps)()
            if isinstance(step, Coroutine):
                with contextlib.suppress(*EXPECTED, asyncio.CancelledError):
                    await step
            Reentrant.reentry = self.disturb if self.chance.random() < 0.5 else None
        Reentrant.reentry = None
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.graph.validate()
        if self.chance.random() < 0.7:
            await self.graph.close()
            self.graph.validate()

    def disturb(self, may_create: bool) -> None:
        """What a key, a value or an observer does to the graph that is busy with it."""
        if not self.graph.is_in_own_thread():  # where the garbage collector may let go of values too
            return
        match self.chance.randrange(12):
            case 0:
                self.sheet.leaf.invalidate(self.chance.randrange(NUMBERS))
            case 1:
                self.held.clear()
            case 2:
                self.graph.invalidate_all()
            case 3:
                gc.collect(0)
            case 4:
                self.sheet.leaf.peek(self.chance.randrange(NUMBERS))
            case 5 if may_create:
                self.start()
            case 6 if may_create:
                self.sheet.any_read()
            case _:
                pass

    def read(self) -> Awaitable[object]:
        return finish(self.sheet.any_read())

    async def read_many(self) -> None:
        await gather(*(self.sheet.any_read() for _ in range(self.chance.randrange(6))), return_exceptions=True)

    def start(self) -> None:
        with contextlib.suppress(UsageError):  # the graph may be closed, when a value's end does this
            task = asyncio.get_running_loop().create_task(finish(self.sheet.any_read()))
            self.tasks[task] = None
            task.add_done_callback(self.end)

    def end(self, task: asyncio.Task[Any]) -> None:
        self.tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, EXPECTED):
            raise error

    async def cancel(self) -> None:
        for task in self.chance.sample([*self.tasks], k=len(self.tasks) // 2):
            task.cancel()
        await asyncio.sleep(0)

    def invalidate(self) -> None:
        if self.held:
            self.chance.choice(self.held).invalidate()

    def invalidate_by_call(self) -> None:
        self.sheet.leaf.invalidate(self.chance.randrange(NUMBERS))
        self.sheet.delayed.invalidate(self.chance.randrange(NUMBERS))
        self.sheet.touchy.invalidate(Touchy(self.chance.randrange(NUMBERS)))
        self.sheet.named.invalidate(name=str(self.chance.randrange(NUMBERS)))

    def hold(self) -> None:
        self.held.append(self.sheet.any_read())

    def let_go(self) -> None:
        if self.held:
            self.held.pop(self.chance.randrange(len(self.held)))

    def observe(self) -> None:
        if self.held:
            computed = self.chance.choice(self.held)
            with contextlib.suppress(ValueError):  # of one that is invalidated the observer is told here
                computed.on_invalidated(self.on_invalidated)
            computed.on_invalidated(lambda told: computed.is_consistent and told)

    def stop_observing(self) -> None:
        if self.held:
            self.chance.choice(self.held).remove_observer(self.on_invalidated)

    def on_invalidated(self, computed: Computed[Any]) -> None:
        assert not computed.is_consistent
        if self.chance.random() < 0.2:
            raise ValueError("an observer that fails")
        if self.chance.random() < 0.3:
            self.held.append(computed.function.lookup(computed.arguments))
        self.disturb(may_create=True)

    async def wait(self) -> None:
        if self.held:
            waiting = asyncio.ensure_future(self.chance.choice(self.held).when_invalidated())
            await asyncio.sleep(0)
            self.invalidate()
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

    async def update(self) -> None:
        if self.held:
            self.held.append(await self.chance.choice(self.held).update())

    async def follow(self) -> None:
        changes = self.sheet.leaf.changes(self.chance.randrange(NUMBERS))
        computed = await anext(changes)
        computed.invalidate()
        self.held.append(await anext(changes))
        del changes

    def drive_by_hand(self) -> None:
        """Start, and leave in the middle, in each of the ways that a coroutine can be left."""
        coroutine = finish(self.sheet.any_read())
        try:
            coroutine.send(None)
            match self.chance.randrange(3):
                case 0:
                    coroutine.close()
                case 1:
                    coroutine.throw(ValueError("thrown from outside"))
                case _:
                    del coroutine
        except (StopIteration, *EXPECTED, asyncio.CancelledError):
            pass

    async def join(self) -> None:
        told: list[Computed[Any]] = []
        waiter = self.sheet.any_read().join(told.append)
        if self.chance.random() < 0.5:
            await asyncio.sleep(0)
        waiter.leave()

    def look(self) -> None:
        if not self.held:
            return
        computed = self.chance.choice(self.held)
        assert repr(computed)
        assert computed.key.method
        assert computed.version >= 0
        assert computed.state is computed.state
        if not computed.has_output:
            return
        if computed.error is None:
            assert computed.value is computed.value
            return
        with pytest.raises(type(computed.error)):
            _ = computed.value

    def assign(self) -> None:
        arguments = (self.chance.randrange(NUMBERS),)
        function = self.sheet.leaf.function
        with contextlib.suppress(UsageError):
            if self.chance.random() < 0.5:
                self.held.append(function.assign_value(arguments, Parting()))
            else:
                self.held.append(function.assign_error(arguments, ValueError("assigned")))

    def refuse(self) -> None:
        leaf: Callable[..., object] = self.chance.choice((self.sheet.leaf, self.sheet.leaf.peek))
        for args, kwargs in (
            ((), {}),
            ((1, 2), {}),
            ((1,), {"number": 1}),
            (([],), {}),
            ((), {"other": 1}),
            ((1 << 99,), {}),
        ):
            try:
                leaf(*args, **kwargs)
            except FusionError:
                continue
            raise AssertionError(f"{args}, {kwargs} are taken")

    def collect(self) -> None:
        gc.collect()

    def from_another_thread(self) -> None:
        """A hit from another thread is no use to anybody, and does no harm."""
        thread = threading.Thread(target=lambda: [self.sheet.leaf.peek(number) for number in range(NUMBERS)])
        thread.start()
        thread.join()

    def check(self) -> None:
        Reentrant.reentry = None
        self.graph.validate()


async def finish(computed: Computed[Any]) -> object:
    return await computed


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--finalizers", action="store_true", help="the ends of values use the graph")
    options = parser.parse_args()
    Parting.is_harsh = options.finalizers
    logging.disable(logging.CRITICAL)
    for seed in range(options.first, options.first + options.seeds):
        try:
            run_in_virtual_time(Life(seed).run(options.steps))  # where a hang is an error
        except BaseException:
            print(f"python -m tests.native.workload --first {seed} --seeds 1 --steps {options.steps}", file=sys.stderr)
            raise
        gc.collect()


if __name__ == "__main__":
    main()
