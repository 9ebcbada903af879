"""The walks of a call through the code: the functions that hand it on to one another, found by tracing real calls.

`python -m tests.architecture.walks` prints them as they stand in `docs/design.md`.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import fusion_cluster
import fusion_router
from fusion_cluster import App, ComputeService, command, compute_method
from fusion_cluster.runtime import VirtualRuntime
from fusion_cluster.testing import LocalCluster, run_in_virtual_time

_FOLDERS = [Path(package.__path__[0]) for package in (fusion_cluster, fusion_router)]
_LEFT_OUT = ("/graph/core/", "/testing/")
"""What there is in C and in Python, for a call of C is not seen; and what the tests bring along."""

_OF_A_CALL = frozenset(
    {
        "CallerCalls.start",
        "MemoryCarrier.send",
        "Serving._read",
        "Serving._execute",
        "Shelves.count",
        "Shelves.put",
        "OwnerSession.send_result",
        "deliver_results",
        "decode_result",
    }
)
"""The milestones: where a call is handed to a session, a carrier, the owner's host, a body, and its result back."""

_OF_A_PUBLICATION = frozenset({"OwnerSession.send_invalidated", "OwnerSession.send_barrier"})
"""The same of an invalidation: where its subscribers are told of it, and asked to confirm."""


class Shelves(ComputeService):
    def __init__(self) -> None:
        self.counts: dict[int, int] = {}

    @compute_method
    async def count(self, shelf: int) -> int:
        return self.counts.get(shelf, 0)

    @command
    async def put(self, shelf: int, count: int) -> None:
        self.counts[shelf] = count
        self.count.invalidate(shelf)


class Walk:
    """The functions that were on the stack when a milestone was reached, in order, each once."""

    def __init__(self, milestones: frozenset[str], start: str = "") -> None:
        self._milestones = milestones
        self._start = start
        self._steps: dict[CodeType, str] = {}

    @property
    def steps(self) -> list[str]:
        """Each as "folder/module.py function"."""
        return list(self._steps.values())

    def on_event(self, frame: FrameType, event: str, _argument: Any) -> None:
        if event != "call" or frame.f_code.co_qualname not in self._milestones:
            return
        stack: list[tuple[CodeType, str]] = []
        above: FrameType | None = frame
        while above is not None:
            if place := _place(above.f_code):
                stack.append((above.f_code, place))
            if above.f_code.co_qualname == self._start:
                break
            above = above.f_back
        else:
            if self._start:
                return
        for code, place in reversed(stack):
            self._steps.setdefault(code, f"{place} {code.co_qualname.replace('.<locals>', '')}")

    @contextmanager
    def traced(self) -> Iterator[None]:
        before = sys.getprofile()
        sys.setprofile(self.on_event)
        try:
            yield
        finally:
            sys.setprofile(before)


def _place(code: CodeType) -> str:
    path = Path(code.co_filename)
    for folder in _FOLDERS:
        if path.is_relative_to(folder) and not any(part in code.co_filename for part in _LEFT_OUT):
            return f"{folder.name}/{path.relative_to(folder)}"
    return ""


async def _trace() -> dict[str, list[str]]:
    walks = {
        "a read": Walk(_OF_A_CALL),
        "a command": Walk(_OF_A_CALL),
        "an invalidation": Walk(_OF_A_PUBLICATION, start="ClusterHost.publish"),
    }
    async with LocalCluster(App("walk", [Shelves]), shards=2, strict=False, runtime=VirtualRuntime()) as cluster:
        shelves = cluster.service(Shelves)
        for shelf in range(6):  # all links are there
            await shelves.put(shelf, 1)
            await shelves.count(shelf)
        steps: dict[str, Callable[[], Awaitable[object]]] = {
            "a read": lambda: shelves.count(77),
            "a command": lambda: shelves.put(77, 5),
            "an invalidation": lambda: shelves.put(77, 6),
        }
        for name, step in steps.items():
            await shelves.count(78)
            if name == "an invalidation":
                await shelves.count(77)
            with walks[name].traced():
                await step()
    return {name: walk.steps for name, walk in walks.items()}


def walks() -> dict[str, list[str]]:
    """Trace a read, a command and an invalidation, from a driver through the owner and back."""
    return run_in_virtual_time(_trace())


def as_written() -> str:
    """The walks as they stand in the documentation."""
    return "\n\n".join(
        f"{name}: {len(steps)} functions\n" + "\n".join(f"  {step}" for step in steps)
        for name, steps in walks().items()
    )


if __name__ == "__main__":
    print(as_written())
