"""Arguments as bytes: an array in the order of the method's parameters, decoded by their type hints.

What comes in is not trusted: whatever the bytes are, decoding ends with canonical arguments or with InvalidArgument.
"""

from __future__ import annotations

import datetime
import enum
import re
import types
import typing
import uuid
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NoReturn, cast

import msgspec

from fusion_cluster.errors import FusionError, InvalidArgument, UsageError
from fusion_cluster.wire import hooks
from fusion_cluster.wire.canonical import canonicalizer
from fusion_cluster.wire.hints import decodable
from fusion_cluster.wire.values import (
    DECODING_ERRORS,
    ENCODING_ERRORS,
    ValueCodec,
    encode_json,
    encode_msgpack,
    reason_of,
    value_codec,
)

if TYPE_CHECKING:
    from fusion_cluster.graph.signature import Signature

__all__ = ["ArgumentsCodec", "ValueCodec", "encode_json", "encode_msgpack", "value_codec"]

MAX_ARGUMENTS_BYTES = 16 * 2**20
"""The longest encoded arguments that are looked at: one frame of a link."""

MAX_ARGUMENTS_DEPTH = 64
"""How deeply arguments may be nested where their type sets no limit."""

_msgpack = msgspec.msgpack.Encoder(enc_hook=hooks.to_msgpack)
_json = msgspec.json.Encoder(enc_hook=hooks.to_json)


class ArgumentsCodec:
    """Encodes and decodes the arguments of one method, as an array in the order of its parameters.

    Args:
        signature: whose arguments.
        is_key: equal arguments must give equal bytes, as those of compute methods must; with False they travel exactly
            as they are (`Decimal("1.20")` stays so), as those of commands may.
    """

    def __init__(self, signature: Signature, *, is_key: bool = True) -> None:
        self._signature = signature
        self._parameters = signature.parameters
        self._hints = tuple(_decodable_parameter(parameter.name, parameter.type) for parameter in self._parameters)
        own = [canonicalizer(parameter.type) for parameter in self._parameters]
        self._each = own
        self._canonicalizers = tuple((i, one) for i, one in enumerate(own) if one is not None) if is_key else ()
        self._is_canonical_when_decoded = all(map(_is_spelled_one_way, (p.type for p in self._parameters)))
        self._decoders = _Decoders(self._hints)
        self._all = self._decoders.of(len(self._hints))

    # -- encoding
    def encode(self, arguments: tuple[Any, ...]) -> bytes:
        """Canonical arguments as a msgpack array.

        Raises:
            InvalidArgument: one of them cannot leave the process; `field` names its parameter.
        """
        try:
            if self._canonicalizers:
                spelled = list(arguments)
                for index, canonicalize in self._canonicalizers:
                    spelled[index] = canonicalize(arguments[index])
                return _msgpack.encode(spelled)
            return _msgpack.encode(arguments)
        except (FusionError, *ENCODING_ERRORS) as error:
            self._name_culprit(arguments, error)

    def encode_one(self, index: int, arguments: tuple[Any, ...]) -> bytes:
        """One of the arguments in its canonical spelling: what shard keys are made of."""
        canonicalize = self._each[index]
        value = arguments[index]
        return encode_msgpack(value if canonicalize is None else canonicalize(value))

    def encode_json(self, arguments: tuple[Any, ...]) -> str:
        """Arguments as a JSON array.

        Raises:
            InvalidArgument: one of them cannot leave the process; `field` names its parameter.
        """
        try:
            return _json.encode(arguments).decode()
        except (FusionError, *ENCODING_ERRORS) as error:
            self._name_culprit(arguments, error)

    def _name_culprit(self, arguments: tuple[Any, ...], error: BaseException) -> NoReturn:
        for parameter, argument in zip(self._parameters, arguments, strict=False):
            try:
                encode_msgpack(argument)
            except UsageError as culprit:
                text = f"{self._signature.name}: {parameter.name}: {culprit.message}"
                raise InvalidArgument(text, field=parameter.name) from error
        raise InvalidArgument(f"{self._signature.name}: the arguments cannot be encoded: {error}") from error

    # -- decoding
    def decode_msgpack(self, encoded: bytes) -> tuple[Any, ...]:
        """Canonical arguments from a msgpack array; trailing ones that are missing get their defaults.

        Raises:
            InvalidArgument: wrong count or type, or no such array; `field` names the parameter.
        """
        self._check_length(len(encoded))
        try:
            decoded = self._all.msgpack.decode(encoded)
        except DECODING_ERRORS as error:
            decoded = self._decode_fewer(encoded, error, is_json=False)
        return decoded if self._is_canonical_when_decoded else self._bound(decoded)

    def decode_json(self, encoded: str | bytes) -> tuple[Any, ...]:
        """Canonical arguments from a JSON array; trailing ones that are missing get their defaults.

        Raises:
            InvalidArgument: wrong count or type, or no such array; `field` names the parameter.
        """
        self._check_length(len(encoded))
        try:
            decoded = self._all.json.decode(encoded)
        except DECODING_ERRORS as error:
            decoded = self._decode_fewer(encoded, error, is_json=True)
        return self._sendable(decoded)

    def from_builtins(self, arguments: Sequence[Any]) -> tuple[Any, ...]:
        """Canonical arguments from plain values, such as a command line's JSON.

        Raises:
            InvalidArgument: wrong count or type; `field` names the parameter.
        """
        self._check_count(len(arguments))
        hint = self._decoders.of(len(arguments)).hint
        try:
            decoded: tuple[Any, ...] = msgspec.convert(list(arguments), hint, dec_hook=hooks.from_json)
        except DECODING_ERRORS as error:
            raise self._unfit(error) from error
        return self._sendable(self._with_defaults(decoded))

    def _sendable(self, decoded: tuple[Any, ...]) -> tuple[Any, ...]:
        """Canonical arguments that can be sent on: JSON has integers that msgpack, and so the cluster, has not."""
        if not self._is_canonical_when_decoded:
            decoded = self._bound(decoded)
        self.encode(decoded)
        return decoded

    def _decode_fewer(self, encoded: str | bytes, reason: BaseException, *, is_json: bool) -> tuple[Any, ...]:
        """Decoding all has failed: only because trailing arguments with defaults are missing, or say what is wrong."""
        try:
            items = _COUNT.json.decode(encoded) if is_json else _COUNT.msgpack.decode(cast(bytes, encoded))
        except DECODING_ERRORS as error:
            raise self._unfit(error) from error
        self._check_count(len(items))
        if len(items) == len(self._parameters):
            raise self._unfit(reason) from reason
        fewer = self._decoders.of(len(items))
        try:
            decoded = fewer.json.decode(encoded) if is_json else fewer.msgpack.decode(cast(bytes, encoded))
        except DECODING_ERRORS as error:
            raise self._unfit(error) from error
        return self._with_defaults(decoded)

    def _with_defaults(self, decoded: tuple[Any, ...]) -> tuple[Any, ...]:
        return decoded + tuple(parameter.default for parameter in self._parameters[len(decoded) :])

    def _check_length(self, length: int) -> None:
        if length > MAX_ARGUMENTS_BYTES:
            raise InvalidArgument(
                f"{self._signature.name}: the arguments are {length:,} bytes long, more than {MAX_ARGUMENTS_BYTES:,}",
                field="arguments",
            )

    def _check_count(self, count: int) -> None:
        parameters = self._parameters
        if count > len(parameters):
            names = ", ".join(parameter.name for parameter in parameters)
            raise InvalidArgument(
                f"{self._signature.name} takes {len(parameters)} arguments ({names}), {count} are given",
                field="arguments",
            )
        for parameter in parameters[count:]:
            if parameter.is_required:
                raise InvalidArgument(
                    f"{self._signature.name}: the argument {parameter.name!r} is missing", field=parameter.name
                )

    def _bound(self, decoded: tuple[Any, ...]) -> tuple[Any, ...]:
        for parameter, argument in zip(self._parameters, decoded, strict=True):
            if _is_too_deep(argument):
                raise InvalidArgument(
                    f"{self._signature.name}: {parameter.name}: nested deeper than {MAX_ARGUMENTS_DEPTH}",
                    field=parameter.name,
                )
        try:
            return self._signature.canonicalise(decoded)
        except RecursionError as error:  # hashing a record that contains records, and so on
            raise self._unfit(error) from error

    def _unfit(self, error: BaseException) -> InvalidArgument:
        """Which parameter the error is about: msgspec says `at $[1].price`."""
        reason = reason_of(error)
        place = _PLACE.search(reason)
        if place is None:
            return InvalidArgument(f"{self._signature.name}: the arguments: {reason}", field="arguments")
        name = self._parameters[int(place["index"])].name
        inner = f" (at {name}{place['rest']})" if place["rest"] else ""
        return InvalidArgument(f"{self._signature.name}: {name}: {reason[: place.start()]}{inner}", field=name)


class _Decoders:
    """Decoders of the first n arguments, made when first needed."""

    def __init__(self, hints: tuple[Any, ...]) -> None:
        self._hints = hints
        self._by_count: dict[int, _Pair] = {}

    def of(self, count: int) -> _Pair:
        pair = self._by_count.get(count)
        if pair is None:
            pair = self._by_count[count] = _Pair(_tuple_of(self._hints[:count]))
        return pair


class _Pair:
    __slots__ = ("hint", "json", "msgpack")

    def __init__(self, hint: Any) -> None:
        self.hint = hint
        self.msgpack = msgspec.msgpack.Decoder(hint, dec_hook=hooks.from_msgpack)
        self.json = msgspec.json.Decoder(hint, dec_hook=hooks.from_json)


_COUNT = _Pair(list[msgspec.Raw])
_PLACE = re.compile(r" - at `\$\[(?P<index>\d+)\](?P<rest>.*)`$", re.DOTALL)


def _tuple_of(hints: tuple[Any, ...]) -> Any:
    return tuple[hints] if hints else tuple[()]  # type: ignore[valid-type]


def _decodable_parameter(name: str, hint: Any) -> Any:
    try:
        return decodable(hint)
    except UsageError as error:
        raise UsageError(f"{name}: {error.message}", field=name) from error


# Not float: there must be one NaN only, and no -0.0.
_SCALARS = (
    *(int, str, bool, bytes, types.NoneType, uuid.UUID),
    *(Decimal, datetime.date, datetime.datetime, datetime.time, datetime.timedelta),
)


def _is_spelled_one_way(hint: Any) -> bool:
    """Whether what is decoded for the hint needs neither converting nor checking to be an argument."""
    while isinstance(hint, typing.NewType):
        hint = hint.__supertype__
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        members = [m for m in typing.get_args(hint) if m is not types.NoneType]
        return len(members) == 1 and _is_spelled_one_way(members[0])
    return hint in _SCALARS or (isinstance(hint, type) and issubclass(hint, enum.Enum))


def _is_too_deep(value: Any) -> bool:
    level: list[Any] = [value]
    for _ in range(MAX_ARGUMENTS_DEPTH):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
                inner.extend(item)
            elif isinstance(item, list | tuple | set | frozenset):
                inner.extend(item)
        if not inner:
            return False
        level = inner
    return True
