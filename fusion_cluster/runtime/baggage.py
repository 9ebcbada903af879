"""Baggage: what travels with the calls of this context to other processes, besides their arguments.

It is the trace that a call belongs to (`traceparent`, `tracestate`, as W3C Trace Context has them), the principal of a
command, and what users add. An event carries the baggage of its emitter, in the outbox, to its handlers.
Invariant: it does not change a result. Only who asks for a command may decide something.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from contextvars import ContextVar, Token
from types import MappingProxyType
from typing import Any, Final, Protocol, runtime_checkable

import msgspec

from fusion_cluster.errors import InvalidArgument, UsageError

NO_BAGGAGE: Final[Mapping[str, str]] = MappingProxyType({})

MAX_BYTES: Final = 8192
"""How many bytes the names and values of what users add may have together."""

MAX_ENTRIES: Final = 64
"""How many entries that may be."""

MAX_CALL_BYTES: Final = 2 * MAX_BYTES
MAX_CALL_ENTRIES: Final = MAX_ENTRIES + 3
"""The same of all that travels with one call, the trace and the principal included."""

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
TRACE: Final = frozenset((TRACEPARENT, TRACESTATE))
"""The entries that are taken from anybody."""

PRINCIPAL: Final = "principal"
"""The entry of a command's principal, in JSON. It is taken from members of the cluster alone."""

current_baggage: Final[ContextVar[Mapping[str, str]]] = ContextVar("fusion_cluster_baggage", default=NO_BAGGAGE)
"""What the calls of this context take along, except the principal."""

current_principal: Final[ContextVar[Any]] = ContextVar("fusion_cluster_principal", default=None)
"""On whose behalf the code runs in this context: whatever the rules of the app understand. None: nobody is known."""


@runtime_checkable
class Carrier(Protocol):
    """A host whose middleware adds something to what leaves the process."""

    def carried(self) -> Mapping[str, str]:
        """Return what the middleware adds in this context: the trace."""
        ...


class carrying:  # noqa: N801 - used like a function
    """Let the calls of a block take something along, to whatever process they go.

    >>> with carrying(tenant="blue"):
    ...     await products.set_price(3, Decimal("12.30"))  # call.baggage["tenant"] in middleware, on the owner's shard

    Raises:
        InvalidArgument: it is not text, too long together with what the calls take along already, or `principal`, which
            is said by `acting_as`.
    """

    __slots__ = ("_baggage", "_token")

    _token: Token[Mapping[str, str]]

    def __init__(self, **entries: str) -> None:
        if PRINCIPAL in entries:
            raise InvalidArgument("the principal is said by acting_as(...)", field="baggage.principal")
        self._baggage = MappingProxyType({**current_baggage.get(), **entries})
        check_baggage(self._baggage, MAX_BYTES, MAX_ENTRIES)

    def __enter__(self) -> None:
        self._token = current_baggage.set(self._baggage)

    def __exit__(self, *_: object) -> None:
        # A coroutine that nobody finished is closed by the garbage collector, in some other context.
        with contextlib.suppress(ValueError):
            current_baggage.reset(self._token)


def check_baggage(
    baggage: Mapping[str, str], max_bytes: int = MAX_CALL_BYTES, max_entries: int = MAX_CALL_ENTRIES
) -> None:
    """See that baggage can travel.

    Args:
        baggage: to look at.
        max_bytes: of names and values together.
        max_entries: how many there may be.

    Raises:
        InvalidArgument: it cannot; `field` names the entry, or is "baggage" where there is too much of it.
    """
    size = 0
    for name, value in baggage.items():
        try:
            size += len(name.encode()) + len(value.encode())
        except (UnicodeEncodeError, AttributeError):
            shown = name if isinstance(name, str) and name.isascii() else ascii(name)
            raise InvalidArgument(f"the baggage {shown} is not a Unicode text", field=f"baggage.{shown}") from None
    if size > max_bytes or len(baggage) > max_entries:
        raise InvalidArgument(
            f"{len(baggage)} entries of baggage with {size:,} bytes: {max_entries} with {max_bytes:,} are allowed",
            field="baggage",
        )


def of_a_read(baggage: Mapping[str, str], principal: str | None = None) -> Mapping[str, str]:
    """Return the baggage with which a read leaves the process, without what cannot travel.

    A read that failed for it would be everybody's result, and theirs does not depend on this caller's baggage.

    Args:
        baggage: of whoever asks first.
        principal: in JSON, of a read whose result depends on it; None: it does not, as far as is known.
    """
    if not baggage:
        return NO_BAGGAGE if principal is None else {PRINCIPAL: principal}
    try:
        check_baggage(baggage, MAX_CALL_BYTES - MAX_BYTES)
    except InvalidArgument:
        baggage = NO_BAGGAGE
    return baggage if principal is None else {**baggage, PRINCIPAL: principal}


def with_principal(baggage: Mapping[str, str]) -> Mapping[str, str]:
    """Return the baggage of a command that leaves the process, with the principal of this context.

    Raises:
        UsageError: the principal does not come out of JSON as it went in.
    """
    principal = current_principal.get()
    if principal is None:
        return baggage
    text = b""
    try:
        text = msgspec.json.encode(principal)
        is_same = bool(msgspec.json.decode(text) == principal)
    except Exception:
        is_same = False
    if not is_same:
        raise UsageError(
            f"the principal of a command that runs in another process, or of an event, must be text or JSON data, not "
            f"a {type(principal).__name__}: give acting_as() a name, a number or a dict of them"
        )
    return MappingProxyType({**baggage, PRINCIPAL: text.decode()})


def of_an_event(carried: Mapping[str, str] = NO_BAGGAGE) -> str | None:
    """Return the baggage of an event that is emitted in this context, with the principal, as a JSON object.

    Args:
        carried: what middleware adds here: the trace.

    Returns:
        None: there is none.

    Raises:
        InvalidArgument: there is too much of it, or it is not text.
        UsageError: the principal does not come out of JSON as it went in.
    """
    baggage = current_baggage.get()
    if carried:
        baggage = {**baggage, **carried}
    if current_principal.get() is not None:
        baggage = with_principal(baggage)
    if not baggage:
        return None
    check_baggage(baggage)
    return msgspec.json.encode(dict(baggage)).decode()


def arrive_with_event(text: str | None) -> None:
    """Give this context, which is that of an event's delivery, the baggage that `of_an_event` has returned.

    Raises:
        InvalidArgument: there is too much of it, it is not a JSON object of texts, or its principal is not JSON.
    """
    if text is None:
        arrive(NO_BAGGAGE, is_trusted=True)
        return
    try:
        baggage = msgspec.json.decode(text, type=dict[str, str])
    except msgspec.DecodeError as error:
        raise InvalidArgument(f"the baggage is not a JSON object of texts: {error}", field="baggage") from None
    arrive(baggage, is_trusted=True)


def arrive(baggage: Mapping[str, str], *, is_trusted: bool) -> None:
    """Give this context, which is that of a call from another process, what has travelled with the call.

    Args:
        baggage: as it came.
        is_trusted: it comes from a member of the cluster. Else the trace is all that is taken.

    Raises:
        InvalidArgument: there is too much of it, or its principal is not JSON.
    """
    if not baggage:  # nearly always; to look costs less than to set
        if current_baggage.get() is not NO_BAGGAGE:
            current_baggage.set(NO_BAGGAGE)
        if current_principal.get() is not None:
            current_principal.set(None)
        return
    check_baggage(baggage)
    kept = {name: baggage[name] for name in (sorted(baggage) if is_trusted else TRACE & baggage.keys())}
    text = kept.pop(PRINCIPAL, None)
    principal = None
    if text is not None:
        try:
            principal = msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            raise InvalidArgument(f"the principal is not JSON: {error}", field="baggage.principal") from None
    current_baggage.set(MappingProxyType(kept))
    current_principal.set(principal)
