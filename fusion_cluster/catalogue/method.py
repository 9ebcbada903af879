"""`Method`: everything that is known about one method of an app, worked out once.

Hosts, routers, gateways, clients, logs and checks take what they need from here: names, signature, codecs, shard key,
options. Nothing else derives it again.

Invariant: equal arguments have one turn key, and one turn key has one slot, for every supported type hint.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Literal

import xxhash

from fusion_cluster.catalogue.options import DEFAULT_OPTIONS, ComputeOptions
from fusion_cluster.catalogue.signature import Signature
from fusion_cluster.catalogue.slots import SLOT_COUNT, prefix_of
from fusion_cluster.errors import UsageError
from fusion_cluster.failures.exits import in_words, reraise_outside
from fusion_cluster.wire.codec import ArgumentsCodec, ValueCodec, encode_msgpack, value_codec
from fusion_cluster.wire.spelling import canonical

MethodKind = Literal["compute", "command", "event"]
"""A read that is cached, a change of data, or a handler of events."""

ShardBy = str | Callable[..., Any]
"""A parameter's name, or a function of the arguments: it places a call on a shard instead of the first argument."""

AsyncBody = Callable[..., Coroutine[Any, Any, Any]]
"""A body as hosts call it: a coroutine function, wherever the body runs."""


@dataclass(frozen=True, eq=False)
class Method:
    """One method of a service, as all parts of a host know it. Two are equal if they are the same object.

    Attributes:
        service_name: "Carts".
        method_name: "total".
        kind: "compute", "command" or "event".
        service: the service class; None for the value of a state, which belongs to no service.
        signature: its parameters and its result, with type variables resolved.
        shard_group: services of one group put equal shard keys on one shard.
        shard_by: what the shard key is made of; None: the first argument.
        options: of a compute method, with those of its service and its app where it says nothing.
        barrier: of a command: its return waits until no replica serves a value that depended on the old data.
        event_classes: of an event handler: the classes of its events.
    """

    service_name: str
    method_name: str
    kind: MethodKind
    signature: Signature
    service: type[Any] | None = None
    shard_group: str = ""
    shard_by: ShardBy | None = None
    options: ComputeOptions = DEFAULT_OPTIONS
    barrier: bool = True
    event_classes: tuple[type[Any], ...] = field(default=(), repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields alone: a codec cannot be pickled, and is made again where it is needed."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __str__(self) -> str:
        return self.name

    @cached_property
    def name(self) -> str:
        """The full name: "Carts.total"."""
        return f"{self.service_name}.{self.method_name}"

    @property
    def documentation(self) -> str:
        """The method's docstring, cleaned, or ""."""
        return self.signature.documentation

    # -- codecs ------------------------------------------------------------------------------------------------------
    @cached_property
    def arguments(self) -> ArgumentsCodec:
        """Codec of the arguments: canonical ones, and their bytes.

        Raises:
            UsageError: arguments of a parameter's type cannot travel; `field` names it.
        """
        return self.signature.codec

    @cached_property
    def result(self) -> ValueCodec[Any]:
        """Codec of the result.

        Raises:
            UsageError: results of the type cannot be told apart when encoded.
        """
        try:
            return value_codec(self.signature.result_type)
        except UsageError as error:
            raise UsageError(f"{self.name}: its result: {error.message}", field="return") from error

    @cached_property
    def returns_nothing(self) -> bool:
        """Whether it is declared to return None. An event handler's result is never used."""
        return self.kind == "event" or self.signature.result_type in (None, type(None))

    def require_codecs(self) -> None:
        """Make both codecs.

        Raises:
            UsageError: a type cannot travel; the message names the method, `field` the parameter or "return".
        """
        _ = self.arguments
        _ = self.result

    # -- where it belongs --------------------------------------------------------------------------------------------
    def slot(self, arguments: tuple[Any, ...]) -> int:
        """Return the slot that owns the call with these canonical arguments."""
        return xxhash.xxh3_64_intdigest(self._slot_prefix + self._shard_key(arguments)) % SLOT_COUNT  # `slot_of`

    def turn_key(self, arguments: tuple[Any, ...]) -> tuple[str, bytes]:
        """Return the key of turns, the shard group and the shard key: commands with the same one do not interleave.

        Events take turns before they come to their handlers; two equal events take turns here.
        """
        return self._group, self._shard_key(arguments)

    def require_shard_key(self, arguments: tuple[Any, ...]) -> None:
        """Check that a function given as `shard_by` decides about these arguments. Whoever runs the call asks first.

        Raises:
            UsageError: it has failed, or what it gives cannot be encoded. The error is not kept as a result.
        """
        if not callable(self.shard_by):
            return
        try:
            _made_by(self.shard_by, self.arguments, arguments)
        except BaseException as error:
            reraise_outside(error)
            failure = UsageError(f"{self.name}: its shard_by has failed: {in_words(error)}", field="shard_by")
            failure.__dict__["is_memoized"] = False  # who keeps it, and how long, depends on the slot
            raise failure from error

    def fingerprint(self, arguments: tuple[Any, ...]) -> bytes:
        """Return a digest of name and arguments: equal for each retry of a command, whichever process it reaches.

        That of an event handler is of its name alone: the command id says which event it is.
        """
        if self.kind == "event":
            return xxhash.xxh3_128_digest(self.name.encode())
        return xxhash.xxh3_128_digest(self.name.encode() + b"\0" + self.arguments.encode_as_key(arguments))

    @cached_property
    def _group(self) -> str:
        return self.name if self.kind == "event" else self.shard_group

    @cached_property
    def _slot_prefix(self) -> bytes:
        return prefix_of(self._group)

    @cached_property
    def _shard_key(self) -> Callable[[tuple[Any, ...]], bytes]:
        if self.kind == "event":
            return _event_key
        names = self.signature.parameter_names
        if callable(self.shard_by):
            return partial(_chosen_key, self.shard_by, self.arguments)
        if self.shard_by is not None:
            if self.shard_by not in names:
                raise UsageError(f"{self.name} has no parameter {self.shard_by!r} to shard by", field="shard_by")
            return partial(self.arguments.encode_one, names.index(self.shard_by))
        return partial(self.arguments.encode_one, 0) if names else _no_key


def _no_key(_arguments: tuple[Any, ...]) -> bytes:
    return b""


def _event_key(arguments: tuple[Any, ...]) -> bytes:
    return encode_msgpack(arguments[0])


def _chosen_key(choose: Callable[..., Any], codec: ArgumentsCodec, arguments: tuple[Any, ...]) -> bytes:
    """Encode what a user's function makes of the arguments; where it fails, the arguments.

    It is given the arguments of a key, so equal ones are the same. Its errors are for `require_shard_key`: a slot is
    asked for where nobody could be told of them, such as when a new slot map comes.
    """
    try:
        return _made_by(choose, codec, arguments)
    except BaseException as error:
        reraise_outside(error)
        return codec.encode_as_key(arguments)


def _made_by(choose: Callable[..., Any], codec: ArgumentsCodec, arguments: tuple[Any, ...]) -> bytes:
    return encode_msgpack(canonical(choose(*codec.as_key(arguments))))
