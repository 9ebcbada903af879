"""An app: a name, the services it consists of, and the database they share.

The same app runs in four settings: `app.local()` in one process, `fusion_cluster.testing.LocalCluster(app)` as shards
in one process, `app.cluster()` on Ray, `fusion_cluster.client.connect()` from outside.
"""

from __future__ import annotations

import math
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from fusion_cluster.blocking import BlockingHost
from fusion_cluster.blocks import async_block
from fusion_cluster.bodies.offload import Bodies, TaskRunner
from fusion_cluster.catalogue.definition import abstract_methods, require_class
from fusion_cluster.catalogue.options import DEFAULT_OPTIONS, ComputeOptions, RayTask
from fusion_cluster.catalogue.service import ComputeService, service_methods
from fusion_cluster.catalogue.signature import Signature
from fusion_cluster.commands import Command, EventHandler
from fusion_cluster.commands.events.options import DEFAULT_EVENT_OPTIONS, EventOptions
from fusion_cluster.commands.events.subscriptions import add_event_classes
from fusion_cluster.errors import UnknownMethod, UnknownService, UsageError
from fusion_cluster.failures.failure import TransientClassifier, is_transient
from fusion_cluster.graph import DEFAULT_HISTORY, ComputeMethod
from fusion_cluster.graph.computing.retention import SizeOf, estimate_bytes
from fusion_cluster.host import Host, LocalHost
from fusion_cluster.middleware import Middleware
from fusion_cluster.middleware.stack import MiddlewareStack
from fusion_cluster.runtime import SYSTEM, Runtime
from fusion_cluster.strict import Strictness, raise_findings
from fusion_cluster.wire.codec import value_codec

if TYPE_CHECKING:
    from fusion_cluster.database import Database

MethodKind = Literal["compute", "command"]


@dataclass(frozen=True)
class MethodSpec:
    """One method of a service, as callers see it.

    Attributes:
        name: "Carts.total".
        kind: "compute" (a read) or "command".
        signature: its parameters and its result.
        service: the class it belongs to.
        shard_by: what decides the slot instead of the first argument: a parameter's name, or a function of the
            arguments.
    """

    name: str
    kind: MethodKind
    signature: Signature
    service: type[ComputeService]
    shard_by: str | Callable[..., Any] | None = None


class App:
    """Services under one name.

    Args:
        name: names the app in a Ray cluster; two apps in one cluster do not see each other.
        services: the service classes; their names must differ.
        database: given to every service as `self.database`.
        defaults: options of compute methods where neither the method nor its service (`compute_defaults`) says
            otherwise.
        is_transient: tells which errors may go away by themselves, see `Transiency`; by default connections, time-outs,
            lost or busy databases, and errors that say so themselves.
        size_of: estimates the bytes of a value, for hosts with a bound in bytes; values of a kind that knows better
            (NumPy, Arrow) say so by `nbytes`, others by `__sizeof__`.
        max_threads: how many bodies with `offload="thread"` run at a time in each process, without those that wait for
            another computation; None: a few more than there are CPUs.
        middleware: what is around the bodies of all methods, in each process that runs them; the outermost first.

        events: how events are delivered to event handlers.

    Attributes:
        event_classes: the classes of the events that are handled, by their names.

    Raises:
        UsageError: two services of one name, a class that is no service, something that is no middleware, event
            handlers for what are no events or without a database, defaults that make no sense, or a method with
            a parameter whose type cannot travel.
    """

    def __init__(
        self,
        name: str,
        services: Sequence[type[ComputeService]] = (),
        *,
        database: Database | None = None,
        defaults: ComputeOptions = DEFAULT_OPTIONS,
        is_transient: TransientClassifier = is_transient,
        size_of: SizeOf = estimate_bytes,
        max_threads: int | None = None,
        middleware: Sequence[Middleware] = (),
        events: EventOptions = DEFAULT_EVENT_OPTIONS,
    ) -> None:
        if not name:
            raise UsageError("an app needs a name", field="name")
        if not callable(is_transient):
            raise UsageError("is_transient must be a function of an error", field="is_transient")
        self.name = name
        self.database = database
        self.defaults = defaults
        self.is_transient = is_transient
        self.size_of = size_of
        self.max_threads = max_threads
        self._middleware = MiddlewareStack(middleware, is_transient)
        self.new_bodies()  # says what is wrong with the defaults
        self.services: dict[str, type[ComputeService]] = {}
        self.methods: dict[str, MethodSpec] = {}
        self.event_options = events
        self.event_classes: dict[str, type] = {}
        for service in services:
            self._add(service)
        if self.event_classes and database is None:
            raise UsageError("event handlers need a database, where events wait for them", field="database")

    def _add(self, service: type[ComputeService]) -> None:
        if not (isinstance(service, type) and issubclass(service, ComputeService)):
            raise UsageError(f"{service!r} is not a ComputeService class", field="services")
        name = service.service_name
        if name in self.services:
            raise UsageError(f"two services of the app {self.name!r} are named {name!r}", field="services")
        require_class(service)
        methods = service_methods(service)
        if abstract := abstract_methods(service, methods):
            raise UsageError(
                f"{service.__name__} is abstract: it leaves {', '.join(abstract)} to its subclasses", field="services"
            )
        self.services[name] = service
        add_event_classes(self.event_classes, service)
        for method in methods.values():
            full_name = f"{name}.{method.name}"
            signature = method.signature(service)
            if isinstance(method, EventHandler):
                continue  # called with events alone, never by those who call methods
            _check_types(signature)
            if isinstance(method, Command):
                self.methods[full_name] = MethodSpec(full_name, "command", signature, service, method.shard_by)
            elif isinstance(method, ComputeMethod):
                self.methods[full_name] = MethodSpec(full_name, "compute", signature, service, method.options.shard_by)

    @property
    def task_cpus(self) -> float:
        """The most CPUs that one body asks for with `offload=RayTask(...)`; 0 when there is none."""
        bodies = self.new_bodies()
        offloads = [
            bodies.options(method.options, service).offload
            for service in self.services.values()
            for method in service_methods(service).values()
            if isinstance(method, ComputeMethod)
        ]
        return max((offload.num_cpus for offload in offloads if isinstance(offload, RayTask)), default=0.0)

    def new_bodies(self, strict: Strictness | None = None) -> Bodies:
        """What one host runs the app's bodies with.

        Args:
            strict: of a host that is strict.
        """
        wrap = self._middleware.wrap if strict is None else strict.around(self._middleware.wrap)
        return Bodies(defaults=self.defaults, max_threads=self.max_threads, wrap=wrap)

    def method(self, service: str, method: str) -> MethodSpec:
        """The method of that name.

        Raises:
            UnknownService: no such service in the app.
            UnknownMethod: no such compute method or command in the service.
        """
        spec = self.methods.get(f"{service}.{method}")
        if spec is not None:
            return spec
        if service not in self.services:
            known = ", ".join(sorted(self.services)) or "none"
            raise UnknownService(
                f"no service {service!r} in the app {self.name!r}; there are: {known}", field="service"
            )
        known = ", ".join(sorted(name.split(".", 1)[1] for name in self.methods if name.startswith(service + ".")))
        raise UnknownMethod(f"no method {method!r} in the service {service!r}; there are: {known}", field="method")

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
        """The whole app in this process and event loop: one graph, no network.

        Bodies with `offload=RayTask(...)` run as Ray tasks if this process has called `ray.init()`, else in threads.

        A result is one object, which all its readers are given: `(await s.items(1)).append(4)` changes it for all of
        them. A host that is *strict* finds that, as well as results that could not travel to another process or are not
        what their annotation says.

        Args:
            max_nodes: hard bound on the number of cached results.
            max_bytes: hard bound on the bytes that they take, by estimate (`size_of`).
            history: how many of the last events are kept, for `why` and `story`; a large number keeps whole chains.
            strict: values pass through their codecs, and must stay what they were. It costs time with each read. None:
                what `FUSION_STRICT` says (0 or 1), else whether this process runs under pytest.
            runtime: the clock, the random numbers and the tasks of the host. In tests a `VirtualRuntime`, in an event
                loop whose time jumps.

        Raises:
            ResultChanged: (at the end) results of a strict host were changed, and nobody has read them since.
        """
        host = LocalHost(
            self, max_nodes=max_nodes, max_bytes=max_bytes, history=history, strict=strict, runtime=runtime
        )
        host.bodies.task_runner = _local_task_runner()
        try:
            await host.start()
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
        """The whole app in this process for code without an event loop: it has one in a thread of its own.

        >>> with app.local_blocking() as host:
        ...     host.service(Carts).total("c1")

        Args:
            max_nodes: hard bound on the number of cached results.
            max_bytes: hard bound on the bytes that they take, by estimate (`size_of`).
            history: how many of the last events are kept, for `why` and `story`.
            strict: see `local`.
            timeout_s: how long one read or command may take; None: as long as it takes.
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
            ShardUnavailable: the app does not run in this Ray cluster, or in none of this machine.
            UsageError: it runs in several of them.
        """
        from fusion_shards.cluster import join  # the composition seam, see docs/adr/0003-nested-packages.md

        return join(self, namespace=namespace)


def _check_types(signature: Signature) -> None:
    """Refuse here, not at each call, what could not travel."""
    _ = signature.codec
    try:
        value_codec(signature.result_type)
    except UsageError as error:
        raise UsageError(f"{signature.name}: its result: {error.message}", field="return") from error


def _local_task_runner() -> TaskRunner | None:
    """What runs tasks on the Ray cluster of this process; None where there is none."""
    ray: Any = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    from fusion_shards.cluster import local_task_runner  # the composition seam, see docs/adr/0003-nested-packages.md

    runner: TaskRunner = local_task_runner()
    return runner
