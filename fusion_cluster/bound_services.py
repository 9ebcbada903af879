"""The services of one host: an instance of each, its methods bound to the host's graph.

Invariant: a service is made once, after all other parts of its host exist, and before it can be called.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from fusion_cluster.bodies.attaching import attach
from fusion_cluster.catalogue.injection import inject, new_instance
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.commands import BoundCommand
from fusion_cluster.errors import UnknownMethod, UsageError
from fusion_cluster.events import BoundEventHandler
from fusion_cluster.graph import ComputeFunction

if TYPE_CHECKING:
    from fusion_cluster.app_definition import AppDefinition
    from fusion_cluster.bodies.offload import Bodies
    from fusion_cluster.graph.hosting import Hosting

S = TypeVar("S", bound=ComputeService)


class BoundServices:
    """The services of an app in one host. `bind` makes them.

    Args:
        app: the app.
        functions: the compute methods of the host's graph, by full name.

    Attributes:
        functions: the compute methods of the host's graph, by full name.
        commands: the commands, by full name.
        event_handlers: the event handlers of all services.
        runs_bodies: whether methods' bodies can run here; known once `bind` has been called.
    """

    def __init__(self, app: AppDefinition, functions: Mapping[str, ComputeFunction]) -> None:
        self._app = app
        self.functions = functions
        self.commands: dict[str, BoundCommand[..., Any]] = {}
        self.event_handlers: list[BoundEventHandler] = []
        self.runs_bodies = False
        self._instances: dict[type[ComputeService], ComputeService] = {}

    def bind(self, hosting: Hosting, *, bodies: Bodies, runs_bodies: bool) -> None:
        """Make the services, and inject them into each other.

        Args:
            hosting: their methods are bound to it.
            bodies: default options, and the runner of bodies.
            runs_bodies: whether methods' bodies can run here; if not, the services' `__init__` is not called.
        """
        self.runs_bodies = runs_bodies
        self._instances.update(
            (service, self._made(service, hosting, bodies)) for service in self._app.services.values()
        )
        for instance in self._instances.values():
            inject(instance, self._instances, database=self._app.database, app_name=self._app.name)

    def service(self, service: type[S]) -> S:
        """Return the instance of a service class.

        Raises:
            UsageError: the class is not one of the app's services.
        """
        instance = self._instances.get(service)
        if instance is None:
            raise UsageError(f"{service.__name__} is not a service of the app {self._app.name!r}", field="service")
        return cast(S, instance)

    def function(self, name: str) -> ComputeFunction:
        """Return the compute method of that full name ("Carts.total").

        Raises:
            UnknownMethod: the app has no such method.
        """
        function = self.functions.get(name)
        if function is None:
            raise UnknownMethod(f"no compute method {name!r} in the app {self._app.name!r}", field="method")
        return function

    def command(self, name: str) -> BoundCommand[..., Any]:
        """Return the command of that full name ("Products.set_price").

        Raises:
            UnknownMethod: the app has no such command.
        """
        command = self.commands.get(name)
        if command is None:
            raise UnknownMethod(f"no command {name!r} in the app {self._app.name!r}", field="method")
        return command

    def _made(self, service: type[ComputeService], hosting: Hosting, bodies: Bodies) -> ComputeService:
        instance = new_instance(service) if self.runs_bodies else service.__new__(service)
        methods = self._app.methods.of(service)
        attach(instance, hosting, methods=methods, bodies=bodies)
        for method in methods:
            bound = getattr(instance, method.method_name).function
            if isinstance(bound, BoundEventHandler):
                self.event_handlers.append(bound)
            elif isinstance(bound, BoundCommand):
                self.commands[bound.name] = bound
        return instance
