"""Heavy bodies as an app: what tests run as Ray tasks, from one process and from shards."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from fusion_cluster import App, ComputeService, RayTask, compute_method, gather

TASK = RayTask(num_cpus=0.5)


class AwkwardError(Exception):
    """Cannot be made again from its arguments."""

    def __init__(self, code: int, *, reason: str) -> None:
        super().__init__(f"{code}: {reason}")


class Numbers(ComputeService):
    @compute_method
    async def number(self, name: str) -> int:
        return len(name)


class Renderers(ComputeService):
    numbers: Numbers

    def __init__(self) -> None:
        self.unit = "px"

    @compute_method
    async def page(self, names: tuple[str, ...]) -> str:
        numbers = await gather(*(self.numbers.number(name) for name in names))
        return await self.rendered(tuple(numbers))

    @compute_method(offload=TASK)
    def rendered(self, numbers: tuple[int, ...]) -> str:
        return " ".join(f"{number}{self.unit}" for number in numbers)

    @compute_method(offload=TASK)
    def process(self, salt: str) -> int:
        return os.getpid()

    @compute_method(offload=TASK)
    async def process_async(self, salt: str) -> int:
        return os.getpid()

    @compute_method
    async def own_process(self, salt: str) -> int:
        return os.getpid()

    @compute_method(offload=RayTask(num_cpus=0, resources={"renderer": 1}))
    def with_resource(self) -> int:
        return 1

    @compute_method(offload=TASK)
    def fails(self, how: str) -> Any:
        if how == "value":
            raise ValueError("no such page")
        if how == "awkward":
            raise AwkwardError(7, reason="ink")
        if how == "exit":
            sys.exit(3)
        raise KeyError(how)

    @compute_method(offload=TASK)
    def unsendable(self) -> Any:
        return threading.Lock()

    @compute_method(offload=TASK)
    async def gives_up(self) -> None:
        raise asyncio.CancelledError

    @compute_method(offload=TASK)
    async def reads(self, name: str) -> int:
        return await self.numbers.number(name)

    @compute_method(offload=TASK)
    def killed_once(self, mark: str) -> str:
        """Kills its own process the first time."""
        path = Path(mark)
        if not path.exists():
            path.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return "survived"

    @compute_method(offload=TASK)
    def interrupted(self, started: str, ended: str) -> None:
        """Runs until it is interrupted, and says so."""
        Path(started).write_text(str(os.getpid()))
        try:
            while True:
                signal.sigtimedwait([], 0.02)
        finally:
            Path(ended).touch()

    @compute_method(offload=TASK)
    def stubborn(self, started: str) -> None:
        """Does not let itself be interrupted."""
        Path(started).write_text(str(os.getpid()))
        while True:
            try:
                while True:
                    signal.sigtimedwait([], 0.02)
            except KeyboardInterrupt:
                continue


app = App("renderers", services=[Numbers, Renderers])
