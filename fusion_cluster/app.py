"""An app: a name, the services it consists of, and the database they share.

The same app runs in four settings: `app.local()` in one process, `fusion_cluster.testing.LocalCluster(app)` as shards
in one process, `app.cluster()` on Ray, `fusion_cluster.client.connect()` from outside.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from fusion_cluster.commands import Command
from fusion_cluster.errors import UnknownMethod, UnknownService, UsageError
from fusion_cluster.graph import ComputeMethod, ComputeService, Signature, service_methods
from fusion_cluster.host import Host, LocalHost

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

    Raises:
        UsageError: two services of one name, or a class that is no service.
    """

    def __init__(
        self, name: str, services: Sequence[type[ComputeService]] = (), *, database: Database | None = None
    ) -> None:
        if not name:
            raise UsageError("an app needs a name", field="name")
        self.name = name
        self.database = database
        self.services: dict[str, type[ComputeService]] = {}
        self.methods: dict[str, MethodSpec] = {}
        for service in services:
            self._add(service)

    def _add(self, service: type[ComputeService]) -> None:
        if not (isinstance(service, type) and issubclass(service, ComputeService)):
            raise UsageError(f"{service!r} is not a ComputeService class", field="services")
        name = service.service_name
        if name in self.services:
            raise UsageError(f"two services of the app {self.name!r} are named {name!r}", field="services")
        self.services[name] = service
        for method in service_methods(service).values():
            full_name = f"{name}.{method.name}"
            signature = method.signature(service)
            if isinstance(method, Command):
                self.methods[full_name] = MethodSpec(full_name, "command", signature, service, method.shard_by)
            elif isinstance(method, ComputeMethod):
                self.methods[full_name] = MethodSpec(full_name, "compute", signature, service, method.options.shard_by)

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

    @asynccontextmanager
    async def local(self, *, max_nodes: int = 1_000_000) -> AsyncIterator[LocalHost]:
        """The whole app in this process and event loop: one graph, no network.

        Args:
            max_nodes: hard bound on the number of cached results.
        """
        host = LocalHost(self, max_nodes=max_nodes)
        try:
            yield host
        finally:
            await host.close()
            if self.database is not None:
                await self.database.dispose()

    def cluster(self, *, namespace: str = "fusion-cluster") -> AbstractAsyncContextManager[Host]:
        """Join the app's cluster from any process of the Ray cluster that runs it (driver, task, actor).

        Args:
            namespace: the Ray namespace the app was launched in.

        Raises:
            ShardUnavailable: the app does not run in this Ray cluster.
        """
        from fusion_shards.cluster import join  # the composition seam, see docs/adr/0003-nested-packages.md

        return join(self, namespace=namespace)


def import_app(path: str, extra_sys_path: Sequence[str] = ()) -> App:
    """Import the app that `module:attribute` names.

    Args:
        path: "examples.shop:app".
        extra_sys_path: folders to look in besides `sys.path`; the current folder is always looked in.

    Raises:
        UsageError: no such module or attribute, or it is not an App; the message says which.
    """
    module_name, _, attribute = path.partition(":")
    if not module_name or module_name.startswith("."):
        raise UsageError(f"{path!r} is not of the form module:attribute", field="app")
    for folder in (os.getcwd(), *extra_sys_path):
        if folder not in sys.path:
            sys.path.append(folder)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise UsageError(f"no module {module_name!r} in {os.getcwd()} or on sys.path", field="app") from error
        raise
    app = getattr(module, attribute or "app", None)
    if not isinstance(app, App):
        what = "is missing" if app is None else f"is a {type(app).__name__}, not an App"
        raise UsageError(f"{attribute or 'app'!r} in module {module_name!r} {what}", field="app")
    return app
