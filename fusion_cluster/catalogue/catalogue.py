"""`Catalogue`: the services of an app and their methods, each made once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import get_origin

from fusion_cluster.catalogue.generics import require_known, variables_of
from fusion_cluster.catalogue.members import abstract_methods, require_class, service_methods
from fusion_cluster.catalogue.method import Method
from fusion_cluster.catalogue.options import DEFAULT_OPTIONS, ComputeOptions
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.errors import UnknownMethod, UnknownService, UsageError
from fusion_cluster.wire.description import type_name


class Catalogue(Mapping[str, Method]):
    """What can be called of an app: its compute methods and commands, by full name ("Carts.total").

    Args:
        services: the service classes; their names must differ.
        defaults: options of compute methods where neither the method nor its service says otherwise.
        app_name: for messages.

    Attributes:
        services: the service classes by name, in the order given.

    Raises:
        UsageError: two services of one name, a class that is not a service or leaves something to its subclasses, or a
            method with a type that cannot travel.
    """

    def __init__(
        self,
        services: Iterable[type[ComputeService]] = (),
        defaults: ComputeOptions = DEFAULT_OPTIONS,
        *,
        app_name: str = "",
    ) -> None:
        self.services: dict[str, type[ComputeService]] = {}
        self._app_name = app_name
        self._methods: dict[str, Method] = {}
        self._of_service: dict[type[ComputeService], tuple[Method, ...]] = {}
        for service in services:
            self._add(service, defaults)

    def __getitem__(self, name: str) -> Method:
        return self._methods[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._methods)

    def __len__(self) -> int:
        return len(self._methods)

    def method(self, service: str, method: str) -> Method:
        """Return the method of that name.

        Raises:
            UnknownService: the app has no such service.
            UnknownMethod: the service has no such compute method or command.
        """
        found = self._methods.get(f"{service}.{method}")
        if found is not None:
            return found
        there_are = ", ".join(sorted(one.method_name for one in self.of(self.service(service)) if one.kind != "event"))
        raise UnknownMethod(f"no method {method!r} in the service {service!r}; there are: {there_are}", field="method")

    def service(self, name: str) -> type[ComputeService]:
        """Return the service class of that name.

        Raises:
            UnknownService: the app has no such service.
        """
        service = self.services.get(name)
        if service is None:
            known = ", ".join(sorted(self.services)) or "none"
            raise UnknownService(
                f"no service {name!r} in the app {self._app_name!r}; there are: {known}", field="service"
            )
        return service

    def of(self, service: type[ComputeService]) -> tuple[Method, ...]:
        """Return all methods of a service class of the app, event handlers too, in the order of the class."""
        return self._of_service[service]

    @property
    def all_methods(self) -> Iterator[Method]:
        """All methods, event handlers too, in the order of the services."""
        for methods in self._of_service.values():
            yield from methods

    # -- inside ------------------------------------------------------------------------------------------------------
    def _add(self, service: type[ComputeService], defaults: ComputeOptions) -> None:
        if not (isinstance(service, type) and issubclass(service, ComputeService)):
            hint = (
                f": write `class Some{service.__origin__.__name__}({type_name(service)})`"
                if get_origin(service)
                else ""
            )
            raise UsageError(f"{type_name(service)} is not a ComputeService class{hint}", field="services")
        name = service.service_name
        if name in self.services:
            raise UsageError(f"two services of the app {self._app_name!r} are named {name!r}", field="services")
        require_class(service)
        if abstract := abstract_methods(service, service_methods(service)):
            raise UsageError(
                f"{service.__name__} is abstract: it leaves {', '.join(abstract)} to its subclasses", field="services"
            )
        self.services[name] = service
        self._of_service[service] = methods = methods_of(service, defaults)
        for method in methods:
            if method.kind != "event":  # called with events alone, never by those who call methods
                require_types(method)
                self._methods[method.name] = method


def methods_of(
    service: type[ComputeService], defaults: ComputeOptions = DEFAULT_OPTIONS, *, service_name: str | None = None
) -> tuple[Method, ...]:
    """Return the methods of a service class, event handlers too, in the order of the class.

    Args:
        service: the class.
        defaults: options of compute methods where neither the method nor the class says otherwise.
        service_name: the service's name in keys, if not its class's.
    """
    name = service_name or service.service_name
    methods: list[Method] = []
    for descriptor in service_methods(service).values():
        full_name, variables = f"{name}.{descriptor.name}", variables_of(service, descriptor)
        signature = descriptor.signature_class(descriptor.body, full_name, variables)
        if descriptor.kind == "event":
            require_known(signature.parameters[0].type, full_name, signature.parameters[0].name, service)
        options = options_of(descriptor.options, service, defaults)
        methods.append(
            Method(
                service_name=name,
                method_name=descriptor.name,
                kind=descriptor.kind,
                signature=signature,
                service=service,
                shard_group=service.shard_group,
                shard_by=descriptor.shard_by if descriptor.kind == "command" else options.shard_by,
                options=options,
                barrier=descriptor.barrier,
                event_classes=descriptor.event_classes(signature),
            )
        )
    return tuple(methods)


def require_types(method: Method) -> None:
    """Check that what a method takes and gives can travel.

    Raises:
        UsageError: a type variable stands for nothing, or values of a type cannot travel; the message names the method,
            `field` the parameter or "return".
    """
    signature = method.signature
    assert method.service is not None
    for parameter in signature.parameters:
        require_known(parameter.type, method.name, parameter.name, method.service)
    require_known(signature.result_type, method.name, "return", method.service)
    method.require_codecs()


def options_of(said: ComputeOptions, service: type[ComputeService], defaults: ComputeOptions) -> ComputeOptions:
    """Return the options of a method that says `said`, as a member of `service` in an app with these defaults."""
    for cls in service.__mro__:
        of_class = cls.__dict__.get("compute_defaults")
        if isinstance(of_class, ComputeOptions):
            said = said.over(of_class)
    return said.over(defaults)
