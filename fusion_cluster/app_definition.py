"""The definition of an app: a name, its services, and the database they share. (`App` says where it runs.)"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from fusion_cluster.bodies.offload import Bodies
from fusion_cluster.catalogue.catalogue import Catalogue
from fusion_cluster.catalogue.method import Method
from fusion_cluster.catalogue.options import DEFAULT_OPTIONS, ComputeOptions, RayTask, require_defaults
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.errors import UsageError
from fusion_cluster.events.options import DEFAULT_EVENT_OPTIONS, EventOptions
from fusion_cluster.events.subscriptions import event_classes_of
from fusion_cluster.failures.failure import TransientClassifier, is_transient
from fusion_cluster.graph.computing.retention import SizeOf, estimate_bytes
from fusion_cluster.middleware.call import Middleware
from fusion_cluster.middleware.stack import MiddlewareStack
from fusion_cluster.quantities import shown
from fusion_cluster.strict import Strictness
from fusion_cluster.verification.options import VerifyOptions

if TYPE_CHECKING:
    from fusion_cluster.database import Database


class AppDefinition:
    """The services of an app, its database and its options: all of `App` but the ways to run it.

    It stands below hosts, which are given one; `App`, which makes hosts, stands above them and documents the arguments.
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
        verify: VerifyOptions | None = None,
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
        require_defaults(defaults, "defaults")
        self.new_bodies()  # raises if the number of threads is wrong
        self.methods = Catalogue(services, defaults, app_name=name)
        if not (verify is None or isinstance(verify, VerifyOptions)):
            raise UsageError(f"verify must be VerifyOptions(...) or None, not {shown(verify)}", field="verify")
        self.verify = verify
        self.event_options = events
        self.event_classes: dict[str, type] = event_classes_of(self.methods.all_methods)
        if self.event_classes and database is None:
            raise UsageError("event handlers need a database, where events wait for them", field="database")

    @property
    def services(self) -> dict[str, type[ComputeService]]:
        """The service classes by name, in the order in which they were given."""
        return self.methods.services

    def method(self, service: str, method: str) -> Method:
        """Return the method of that name.

        Raises:
            UnknownService: the app has no such service.
            UnknownMethod: the service has no such compute method or command.
        """
        return self.methods.method(service, method)

    @property
    def task_cpus(self) -> float:
        """The most CPUs that one body asks for with `offload=RayTask(...)`; 0 when there is none."""
        offloads = [method.options.offload for method in self.methods.values() if method.kind == "compute"]
        return max((offload.num_cpus for offload in offloads if isinstance(offload, RayTask)), default=0.0)

    @property
    def carried(self) -> Callable[[], Mapping[str, str]]:
        """The function that returns what the middleware adds to the calls that leave the process from its context."""
        return self._middleware.carried

    def new_bodies(self, strict: Strictness | None = None) -> Bodies:
        """Return the runner of the app's bodies for one host.

        Args:
            strict: the checks of a strict host; None for other hosts.
        """
        wrap = self._middleware.wrap if strict is None else strict.around(self._middleware.wrap)
        return Bodies(max_threads=self.max_threads, wrap=wrap)
