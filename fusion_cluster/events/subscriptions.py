"""The event handlers of an app, or of a host, by the name of the event's class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fusion_cluster.catalogue.method import Method
from fusion_cluster.commands.emitted_event import event_type
from fusion_cluster.errors import UsageError
from fusion_cluster.events.handler import BoundEventHandler
from fusion_cluster.wire.codec import ValueCodec, value_codec


class Subscription:
    """The handlers of one class of events in a host.

    Attributes:
        handlers: by their full names, in the order of the app.
    """

    def __init__(self, event_class: type) -> None:
        self.handlers: dict[str, BoundEventHandler] = {}
        self._codec: ValueCodec[Any] = value_codec(event_class)

    def decode(self, payload: bytes) -> Any:
        """Return a new copy of the event.

        Raises:
            UsageError: the class has changed, and does not fit the emitted event.
        """
        return self._codec.decode_msgpack(payload)


def subscriptions_of(handlers: Iterable[BoundEventHandler]) -> dict[str, Subscription]:
    """Return the handlers of a host by the events that they handle."""
    found: dict[str, Subscription] = {}
    for handler in handlers:
        for event_class in handler.method.event_classes:
            name = event_type(event_class)
            subscription = found.get(name)
            if subscription is None:
                subscription = found[name] = Subscription(event_class)
            subscription.handlers[handler.name] = handler
    return found


def event_classes_of(methods: Iterable[Method]) -> dict[str, type]:
    """Return the classes of events that methods handle, by their names.

    Raises:
        UsageError: two classes have one name.
    """
    known: dict[str, type] = {}
    for method in methods:
        for event_class in method.event_classes:
            other = known.setdefault(event_type(event_class), event_class)
            if other is not event_class:
                raise UsageError(
                    f"{method.name} handles {_full_name(event_class)}, but another handler's "
                    f"{_full_name(other)} has the same name, and events are known by it"
                )
    return known


def _full_name(event_class: type) -> str:
    return f"{event_class.__module__}.{event_class.__qualname__}"


Subscriptions = Mapping[str, Subscription]
"""By the name of the event's class."""
