"""Emitted events: an instance of a record class, the name of its class, and the key that keeps its order."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

import msgspec

from fusion_cluster.catalogue.slots import slot_of
from fusion_cluster.errors import UsageError
from fusion_cluster.quantities import as_finite_delay
from fusion_cluster.runtime import SYSTEM, Entropy
from fusion_cluster.wire import hooks
from fusion_cluster.wire.codec import encode_msgpack
from fusion_cluster.wire.spelling import canonical

SLOT_GROUP: Final = "events"
"""Takes the place of a shard group in the slots of events: equal keys are one key, for all services that emit them."""

MAX_KEY_BYTES: Final = 1_000
"""The longest key: the database has an index of keys."""


@dataclasses.dataclass(frozen=True, slots=True)
class EmittedEvent:
    """An event that waits for its operation's commit.

    Attributes:
        event_id: its permanent id.
        type: the name of its class.
        key: its key, encoded; events of equal keys are delivered in order.
        slot: the slot whose owner delivers it.
        payload: the event in msgpack, as it was when it was emitted.
        delay_s: how long after the commit it is delivered, at the earliest.
        baggage: the trace and the principal of its emitter, and what users add, as JSON; None: there is none.
    """

    event_id: str
    type: str
    key: bytes
    slot: int
    payload: bytes
    delay_s: float
    baggage: str | None = None


def emitted(
    event: object,
    key: object = None,
    delay_s: float = 0.0,
    *,
    baggage: str | None = None,
    entropy: Entropy = SYSTEM.entropy,
) -> EmittedEvent:
    """Return an event as it is written into the outbox.

    Args:
        event: an instance of a dataclass, a msgspec Struct or a pydantic model.
        key: its subject: any value that can be encoded. None: the name and value of its first field.
        delay_s: how long after the commit it is delivered, at the earliest.
        baggage: what it carries to its handlers, as JSON.
        entropy: gives its id.

    Raises:
        UsageError: it is not such an instance, it or its key cannot be encoded, the key is too long, or the delay is
            negative or infinite.
    """
    if not is_event_class(type(event)):
        raise UsageError(
            f"an event is an instance of a dataclass, a msgspec Struct or a pydantic model, not {_shown(event)}",
            field="event",
        )
    delay_s = as_finite_delay("delay_s", delay_s)
    try:
        encoded_key = encode_msgpack(canonical(_first_field(event) if key is None else key))
    except (UsageError, ValueError) as error:
        raise UsageError(f"the key of an event: {error}", field="key") from error
    if len(encoded_key) > MAX_KEY_BYTES:
        raise UsageError(
            f"the key of this {type(event).__name__} takes {len(encoded_key):,} bytes, more than {MAX_KEY_BYTES:,}: "
            "emit it with a shorter one, key=...",
            field="key",
        )
    return EmittedEvent(
        event_id=entropy.token_hex(10),
        type=event_type(type(event)),
        key=encoded_key,
        slot=slot_of(SLOT_GROUP, encoded_key),
        payload=encode_msgpack(event),
        delay_s=delay_s,
        baggage=baggage,
    )


def is_event_class(hint: object) -> bool:
    """Whether instances of it are events."""
    return isinstance(hint, type) and (
        dataclasses.is_dataclass(hint) or issubclass(hint, msgspec.Struct) or hooks.is_pydantic_model(hint)
    )


def event_type(event_class: type) -> str:
    """Return the name of an event's class, the same in every version of the app."""
    return event_class.__name__


def _first_field(event: Any) -> tuple[str, ...] | tuple[str, Any]:
    """Return the default key of an event: like the first argument of a method, but with its name.

    The name keeps order 3 and product 3 apart. An event without fields goes by its type.
    """
    if isinstance(event, msgspec.Struct):
        names: tuple[str, ...] = event.__struct_fields__
    elif dataclasses.is_dataclass(event):
        names = tuple(field.name for field in dataclasses.fields(event))
    else:
        names = tuple(type(event).model_fields)
    return (names[0], getattr(event, names[0])) if names else (event_type(type(event)),)


def _shown(value: object) -> str:
    return f"the class {value.__name__} itself" if isinstance(value, type) else f"a {type(value).__name__}"
