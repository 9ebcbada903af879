"""The event loop that a graph lives in, and that loop's thread.

Both are those of the first computation. A graph moves on to another loop only when its own is closed.
"""

from __future__ import annotations

import asyncio
import threading
from contextvars import Context
from typing import Any, Final

from fusion_cluster.errors import UsageError
from fusion_cluster.graph.computing.eager import EagerStarter
from fusion_cluster.graph.computing.strays import watch_tasks
from fusion_cluster.graph.core.hot_path import Node
from fusion_cluster.graph.core.key import key_of
from fusion_cluster.graph.core.standing import Standing
from fusion_cluster.runtime import Runtime

_get_thread_id: Final = threading.get_ident


class HomeLoop(Standing):
    """What belongs to one event loop and one thread.

    Args:
        name: what it is, or belongs to, in words, for errors.
        runtime: makes its tasks.

    Attributes:
        runtime: its runtime.
        thread_id: its thread; None until it has one.
        current_starter: starts tasks in its loop; None until it has one.
        timer_context: in which timers run.
    """

    def __init__(self, name: str, runtime: Runtime) -> None:
        super().__init__(name)
        self.runtime = runtime
        self.current_starter: EagerStarter | None = None
        self.thread_id: int | None = None
        self.timer_context = Context()

    def is_in_own_thread(self) -> bool:
        """Tell whether this thread is the graph's, or may become it."""
        return self.thread_id is None or self.thread_id == _get_thread_id()

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop of this graph; None if it has none yet, or that is closed."""
        starter = self.current_starter
        return None if starter is None or starter.loop.is_closed() else starter.loop

    def starter(self, used_for: object = "") -> EagerStarter:
        """Return what starts tasks in the running loop, which from the first call on is the loop of this graph.

        Raises:
            UsageError: another loop runs; the message names `used_for`.
        """
        loop = asyncio.get_running_loop()
        starter = self.current_starter
        if starter is None or loop is not starter.loop:
            starter = self._adopt(loop, used_for)
        return starter

    def _on_loop_gone(self) -> None:
        """Give up what waited for the loop that was closed; this goes on in another one."""

    def _require_thread(self, used_for: object = "") -> None:
        if not self.is_in_own_thread():
            raise UsageError(
                f"{_before(used_for)}{self._name} belongs to another thread than {threading.current_thread().name}: "
                "use it in its event loop (asyncio.run_coroutine_threadsafe), or by blocking(host)"
            )

    def _now_s(self) -> float:
        return 0.0 if self.current_starter is None else self.current_starter.loop.time()

    def _adopt(self, loop: asyncio.AbstractEventLoop, used_for: object) -> EagerStarter:
        if self.current_starter is not None and not self.current_starter.loop.is_closed():
            self._require_thread(used_for)
            raise UsageError(f"{_before(used_for)}{self._name} belongs to another event loop than the one that runs")
        self._on_loop_gone()
        self.thread_id = threading.get_ident()
        self.current_starter = EagerStarter(loop, self.runtime)
        watch_tasks(loop)
        return self.current_starter


def _before(used_for: object) -> str:
    if isinstance(used_for, Node):
        node: Node[Any] = used_for
        return f"{key_of(node)}: "
    return f"{used_for}: " if used_for else ""
