"""The event loop of a simulation: one seeded choice after another of which machine goes on, and a clock that jumps.

A task drives each of its steps through `call_soon`, and each wait through `call_at`. So the loop that has these two has
every interleaving. Each machine keeps the order of its own work, as asyncio promises it; between machines any order is
possible, and the seed chooses one.

Invariants: the clock stands still while a machine has work that can run, and never goes back. No decision depends on
the address of an object, on the order of a set or on a hash seed. The trace records each decision.
"""

from __future__ import annotations

import asyncio
import contextlib
from array import array
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from hashlib import blake2b
from heapq import heappop, heappush
from typing import Any, Final, TypeVar

from fusion_cluster.testing.simulation.chance import Chance
from fusion_cluster.testing.simulation.machine import Machine, current_machine

T = TypeVar("T")

MAX_STEPS: Final = 1_000_000
"""A simulation that takes more steps than this is taken for one that goes round in a circle."""


class NothingLeft(Exception):
    """All tasks wait, and no timer runs: the simulation would never end."""


class TooManySteps(Exception):
    """The simulation goes round in a circle."""


class SimulatedLoop(asyncio.AbstractEventLoop):
    """Runs the work of simulated machines.

    Args:
        chance: chooses the machine of each step; None: all work is done in the order in which it was scheduled.

    Attributes:
        now_s: the time, in seconds since the start of the simulation.
        outside: the machine of the code that runs the simulation: its clock is `now_s`, and it never fails.
        running: the machine whose work runs.
        steps: how many steps were taken.
        errors: what was reported to `call_exception_handler`.
    """

    def __init__(self, chance: Chance | None) -> None:
        self._chance = chance
        self.now_s = 0.0
        self.steps = 0
        self.outside = Machine(self, "outside", 0, Chance(0, 0))
        self.running = self.outside
        self.errors: list[dict[str, Any]] = []
        self._machine_count = 1
        # Machines with work that can run, in the order in which they got it.
        self._runnable: list[Machine] = []
        self._timers: list[tuple[float, int, Machine, asyncio.Handle]] = []
        self._timer_count = 0
        self._trace = array("d")
        self._digest = blake2b(digest_size=16)
        self._is_running = self._is_closed = False
        self._crashed: list[Machine] = []

    # -- machines ------------------------------------------------------------------------------------------------------
    @property
    def machine_count(self) -> int:
        """How many machines there were, `outside` included: the number of the next one."""
        return self._machine_count

    def new_machine(self, name: str, chance: Chance, *, skew_s: float = 0.0, rate: float = 1.0) -> Machine:
        """Make a machine."""
        machine = Machine(self, name, self._machine_count, chance, skew_s=skew_s, rate=rate)
        self._machine_count += 1
        return machine

    def crash(self, machine: Machine) -> None:
        """End a machine at once: nothing that it has scheduled or that waits on it ever runs."""
        machine.is_dead = True
        machine.ready.clear()
        self._unlist(machine)
        self._crashed.append(machine)
        self.note(f"crash {machine.number}")

    def pause(self, machine: Machine) -> None:
        """Stop a machine for now. Its timers and its messages wait; its clock goes on."""
        machine.is_paused = True
        self._unlist(machine)
        self.note(f"pause {machine.number}")

    def resume(self, machine: Machine) -> None:
        """Let a machine go on."""
        if machine.is_paused:
            machine.is_paused = False
            if machine.ready and not machine.is_dead:
                self._list(machine)
            self.note(f"resume {machine.number}")

    def run_on(self, machine: Machine, function: Callable[..., T], *args: Any) -> T:
        """Call a function at once as work of a machine, and return its result."""
        before, self.running = self.running, machine
        context = Context()
        context.run(current_machine.set, machine)
        try:
            return context.run(function, *args)
        finally:
            self.running = before

    # -- the trace -----------------------------------------------------------------------------------------------------
    def note(self, what: str) -> None:
        """Add something to the trace, besides the steps, which are in it."""
        self._fold()
        self._digest.update(what.encode())

    def _fold(self) -> None:
        self._digest.update(self._trace.tobytes())
        del self._trace[:]

    @property
    def trace_hash(self) -> str:
        """A digest of all that has happened: two runs with the same digest are the same run."""
        self._fold()
        return self._digest.copy().hexdigest()

    # -- running -------------------------------------------------------------------------------------------------------
    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run `main` outside of all machines, and with it the machines, until it has ended.

        Raises:
            NothingLeft: it waits for something that never happens.
            TooManySteps: it never ends.
            Exception: what `main` raises.
        """
        asyncio._set_running_loop(self)
        self._is_running = True
        try:
            task = self.create_task_on(self.outside, main, name="main")
            while not task.done():
                self._step()
                if self.steps > MAX_STEPS:
                    raise TooManySteps(f"{self.steps} steps were taken in {self.now_s:.6f} s")
            return task.result()
        finally:
            self._is_running = False
            asyncio._set_running_loop(None)

    def _step(self) -> None:
        """Run the oldest work of one machine, which chance chooses among those that have some."""
        runnable = self._runnable
        if not runnable:
            self._jump()
            return
        index = 0
        if self._chance is not None and len(runnable) > 1:
            index = int(self._chance.random() * len(runnable))
        machine = runnable[index]
        handle = machine.ready.popleft()
        if not handle._cancelled:
            self.steps += 1
            self._trace.append(machine.number)
            self.running = machine
            handle._run()
        if machine.is_runnable:
            if not machine.ready:
                self._unlist(machine)
            elif self._chance is None:  # the next machine's turn
                runnable.append(runnable.pop(0))

    def _list(self, machine: Machine) -> None:
        machine.is_runnable = True
        self._runnable.append(machine)

    def _unlist(self, machine: Machine) -> None:
        if machine.is_runnable:
            machine.is_runnable = False
            self._runnable.remove(machine)

    def _jump(self) -> None:
        """Go to the time of the next timer, and make all that is due at that time ready."""
        timers = self._timers
        while timers and (timers[0][3]._cancelled or timers[0][2].is_dead):
            heappop(timers)
        if not timers:
            raise NothingLeft(f"nothing will ever happen after {self.now_s:.6f} s: all tasks wait, and no timer runs")
        when_s = timers[0][0]
        self.now_s = max(self.now_s, when_s)
        self._trace.append(-self.now_s)
        while timers and timers[0][0] <= self.now_s:
            _, _, machine, handle = heappop(timers)
            if not handle._cancelled:
                self._add(machine, handle)

    def _add(self, machine: Machine, handle: asyncio.Handle) -> None:
        if machine.is_dead:
            return
        machine.ready.append(handle)
        if not machine.is_runnable and not machine.is_paused:
            self._list(machine)

    # -- scheduling ----------------------------------------------------------------------------------------------------
    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        """Run a callback on the machine of its context, else on the one that runs."""
        if context is None:
            context = copy_context()
        handle = asyncio.Handle(callback, args, self, context)
        self._add(context.get(current_machine) or self.running, handle)
        return handle

    def call_on(self, machine: Machine, when_s: float, callback: Callable[..., Any], *args: Any) -> asyncio.Handle:
        """Run a callback on a machine, in a context of its own, when the simulation's clock shows `when_s`."""
        handle = asyncio.Handle(callback, args, self, Context())
        self._add_timer(when_s, machine, handle)
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Run a callback when the clock of its machine shows `when`."""
        if context is None:
            context = copy_context()
        machine = context.get(current_machine) or self.running
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._add_timer(machine.global_s(when), machine, handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Run a callback after so many seconds of its machine."""
        if context is None:
            context = copy_context()
        machine = context.get(current_machine) or self.running
        return self.call_at(machine.now_s() + delay, callback, *args, context=context)

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """As `call_soon`: a simulation has one thread."""
        return self.call_soon(callback, *args, context=context)

    def _add_timer(self, when_s: float, machine: Machine, handle: asyncio.Handle) -> None:
        self._timer_count += 1
        heappush(self._timers, (max(when_s, self.now_s), self._timer_count, machine, handle))

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Do nothing: a cancelled timer is left out when its time comes."""

    def time(self) -> float:
        """Return what the clock of the machine that runs shows."""
        return self.running.now_s()

    # -- tasks ---------------------------------------------------------------------------------------------------------
    def create_task(self, coro: Any, *, name: Any = None, context: Context | None = None, **options: Any) -> Any:
        """Make a task of the machine that runs."""
        return self.create_task_on(self.running, coro, name=name, context=context)

    def create_task_on(
        self, machine: Machine, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[T]:
        """Make a task of a machine."""
        if context is None:
            context = copy_context()
        context.run(current_machine.set, machine)
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        machine.tasks[task] = None
        task.add_done_callback(machine.forget)
        return task

    def create_future(self) -> asyncio.Future[Any]:
        """Make a future."""
        return asyncio.Future(loop=self)

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """Run a function in a later step of the machine, in place of a thread."""
        future: asyncio.Future[T] = self.create_future()

        def run() -> None:
            if future.cancelled():
                return
            try:
                result = func(*args)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        self.call_soon(run)
        return future

    # -- what asyncio asks for -----------------------------------------------------------------------------------------
    def get_debug(self) -> bool:
        """Return False."""
        return False

    def set_debug(self, enabled: bool) -> None:
        """Do nothing."""

    def is_running(self) -> bool:
        """Return whether the simulation runs."""
        return self._is_running

    def is_closed(self) -> bool:
        """Return whether `close` was called."""
        return self._is_closed

    def get_task_factory(self) -> None:
        """Return None: tasks are asyncio's own."""

    def get_exception_handler(self) -> None:
        """Return None: all errors go to `errors`."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep an error that nobody caught."""
        self.errors.append(context)

    async def shutdown_asyncgens(self) -> None:
        """Do nothing."""

    async def shutdown_default_executor(self) -> None:
        """Do nothing: there are no threads."""

    def close(self) -> None:
        """End all tasks that are left, those of crashed machines among them, without running any more work."""
        self._is_closed = True
        reported = list(self.errors)
        self._timers.clear()
        for machine in [*self._crashed, self.outside]:
            for task in list(machine.tasks):
                self._end(task)
            machine.tasks.clear()
            machine.ready.clear()
        self.errors[:] = reported

    def abandon(self, machine: Machine) -> None:
        """Have `close` end what is left on a machine."""
        if not machine.is_dead:
            machine.is_dead = True
            self._crashed.append(machine)

    @staticmethod
    def _end(task: asyncio.Task[Any]) -> None:
        hidden: Any = task
        hidden._log_destroy_pending = False
        coroutine: Any = task.get_coro()
        # A task that runs code at its end, or waits in it, is none of the simulation any more.
        with contextlib.suppress(BaseException):
            coroutine.close()


def new_loop(chance: Chance | None) -> SimulatedLoop:
    """Return a new loop: without what type checkers want of loops with sockets, signals and processes."""
    return SimulatedLoop(chance)  # type: ignore[abstract]  # pyright: ignore[reportAbstractUsage]
