"""An app: a name, the services it consists of, and the database they share.

The same app runs in four settings: `app.local()` in one process, `fusion_cluster.testing.LocalCluster(app)` as shards
in one process, `app.cluster()` on Ray, `fusion_cluster.client.connect()` from outside.
"""

from __future__ import annotations

import math
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from fusion_cluster.app_definition import AppDefinition
from fusion_cluster.blocking import BlockingHost
from fusion_cluster.blocks import async_block
from fusion_cluster.bodies.offload import TaskRunner
from fusion_cluster.graph import DEFAULT_HISTORY
from fusion_cluster.host import Host, LocalHost
from fusion_cluster.runtime import SYSTEM, Runtime
from fusion_cluster.strict import raise_findings

if TYPE_CHECKING:
    pass


class App(AppDefinition):
    """Services under one name.

    Args:
        name: names the app in a Ray cluster; two apps in one cluster do not see each other.
        services: the service classes; their names must differ.
        database: every service gets it as `self.database`.
        defaults: options of compute methods where neither the method nor its service (`compute_defaults`) says
            otherwise.
        is_transient: decides which errors may go away by themselves (see `Transiency`); by default connections,
            time-outs, lost or busy databases, and errors that say so themselves.
        size_of: estimates the bytes of a value, for hosts with a bound in bytes; by default from `nbytes` where a value
            has it (NumPy, Arrow), else from `__sizeof__`.
        max_threads: how many bodies with `offload="thread"` run at a time in each process; those that wait for another
            computation do not count. None: a few more than there are CPUs.
        middleware: wraps the bodies of all methods, in each process that runs them; the outermost first.
        events: how events are delivered to event handlers.
        verify: switches the freshness monitor on, in each shard and gateway: it compares cached values with what their
            methods return now (docs/verification.md). None: it is off.

    Attributes:
        methods: its compute methods and commands by full name, each with its signature, result type and service.
        event_classes: the classes of the events that have a handler, by their names.

    Raises:
        UsageError: two services have the same name, a class is not a service, something is not middleware, an event
            handler takes something that is not an event or has no database, defaults make no sense, or a method has a
            type that cannot travel.
    """

    @async_block
    async def local(
        self,
        *,
        max_nodes: int = 1_000_000,
        max_bytes: float = math.inf,
        history: int = DEFAULT_HISTORY,
        strict: bool | None = None,
        runtime: Runtime = SYSTEM,
    ) -> AsyncIterator[LocalHost]:
        """Run the whole app in this process and event loop: one graph, no network.

        Bodies with `offload=RayTask(...)` run as Ray tasks if this process has called `ray.init()`, else in threads.

        A result is one object that all its readers share: `(await s.items(1)).append(4)` changes it for all of them. A
        *strict* host finds such changes. It also finds results that could not travel to another process, and results
        that do not match their annotation.

        Args:
            max_nodes: hard bound on the number of cached results.
            max_bytes: hard bound on the bytes that they take, by estimate (`size_of`).
            history: how many of the last events are kept, for `why` and `story`; a large number keeps whole chains.
            strict: values pass through their codecs and must not change. Each read costs more time. None: what
                `FUSION_STRICT` says (0 or 1), else whether this process runs under pytest.
            runtime: the clock, the random numbers and the tasks of the host. Tests give a `VirtualRuntime`, in an event
                loop whose time jumps.

        Raises:
            ResultChanged: (at the end) results of a strict host were changed, and no later read has reported it.
        """
        host = LocalHost(
            self, max_nodes=max_nodes, max_bytes=max_bytes, history=history, strict=strict, runtime=runtime
        )
        host.bodies.task_runner = _local_task_runner()
        try:
            await host.start()
            host.verification.start()
            yield host
        finally:
            await host.close()
            if self.database is not None:
                await self.database.dispose()
        if host.strict is not None:
            raise_findings([host.strict])

    def local_blocking(
        self,
        *,
        max_nodes: int = 1_000_000,
        max_bytes: float = math.inf,
        history: int = DEFAULT_HISTORY,
        strict: bool | None = None,
        timeout_s: float | None = None,
    ) -> BlockingHost[LocalHost]:
        """Run the whole app in this process for code without an event loop; the app's loop has its own thread.

        >>> with app.local_blocking() as host:
        ...     host.service(Carts).total("c1")

        Args:
            max_nodes: hard bound on the number of cached results.
            max_bytes: hard bound on the bytes that they take, by estimate (`size_of`).
            history: how many of the last events are kept, for `why` and `story`.
            strict: see `local`.
            timeout_s: how long one read or command may take; None: no limit.
        """
        opens = self.local(max_nodes=max_nodes, max_bytes=max_bytes, history=history, strict=strict)
        return BlockingHost(opens, timeout_s=timeout_s, name=f"the blocking host of the app {self.name!r}")

    def cluster(self, *, namespace: str = "fusion-cluster") -> AbstractAsyncContextManager[Host]:
        """Join the app's cluster from any process of the Ray cluster that runs it (driver, task, actor).

        A process that has not joined Ray joins the cluster that RAY_ADDRESS names, or the one of this machine in which
        the app runs.

        Args:
            namespace: the Ray namespace the app was launched in.

        Raises:
            ShardUnavailable: the app does not run in this Ray cluster, or not in any Ray cluster of this machine.
            UsageError: it runs in several Ray clusters of this machine.
        """
        from fusion_shards.cluster import join  # the composition seam, see docs/adr/0003-nested-packages.md

        return join(self, namespace=namespace)


def _local_task_runner() -> TaskRunner | None:
    """Return the runner of tasks on the Ray cluster of this process; None if the process has not joined one."""
    ray: Any = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    from fusion_shards.cluster import local_task_runner  # the composition seam, see docs/adr/0003-nested-packages.md

    runner: TaskRunner = local_task_runner()
    return runner
