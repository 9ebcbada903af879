"""Arguments as bytes: an array in the order of the method's parameters, decoded by their type hints.

What comes in is not trusted: whatever the bytes are, decoding ends with canonical arguments or with InvalidArgument.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Protocol, cast

import msgspec

from fusion_cluster.errors import FusionError, InvalidArgument
from fusion_cluster.wire import hooks
from fusion_cluster.wire.arguments import MAX_ARGUMENTS_BYTES, ArgumentCodec, EncodedArguments
from fusion_cluster.wire.spelling import MAX_DEPTH
from fusion_cluster.wire.values import (
    DECODING_ERRORS,
    ENCODING_ERRORS,
    ValueCodec,
    encode_json,
    encode_msgpack,
    reason_of,
    value_codec,
)

__all__ = [
    "MAX_ARGUMENTS_BYTES",
    "ArgumentsCodec",
    "EncodedArguments",
    "ValueCodec",
    "encode_json",
    "encode_msgpack",
    "value_codec",
]

_msgpack = msgspec.msgpack.Encoder(enc_hook=hooks.to_msgpack)
_json = msgspec.json.Encoder(enc_hook=hooks.to_json)


class Parameter(Protocol):
    """The part of a parameter that codecs need (see `catalogue.signature.Parameter`).

    Attributes:
        name: its name.
        type: its resolved type hint.
        default: its default, if it has one.
        is_required: a call must give it.
    """

    @property
    def name(self) -> str: ...
    @property
    def type(self) -> Any: ...
    @property
    def default(self) -> Any: ...
    @property
    def is_required(self) -> bool: ...


class ArgumentsCodec:
    """Canonical arguments of one method, and their bytes: an array in the order of its parameters.

    Args:
        name: the method's full name.
        parameters: in order.
        is_key: equal arguments must give equal bytes, as those of compute methods must; with False they travel exactly
            as they are (`Decimal("1.20")` stays so), as those of commands may.

    Attributes:
        name: the method's full name.
        are_told_apart_by_python: canonical arguments that Python finds equal, and of equal classes, are the same, so
            that they are a plain tuple; if not they are `EncodedArguments`.
        may_hold_nan: something in one of the arguments may be NaN; arguments with NaN are always `EncodedArguments`.
        are_changeable: code that has the arguments can change one of them.

    Raises:
        UsageError: arguments of a parameter's type cannot travel; `field` names it.
    """

    def __init__(self, name: str, parameters: Sequence[Parameter], *, is_key: bool = True) -> None:
        self.name = name
        self._parameters = parameters
        self._each = tuple(ArgumentCodec(self.name, p.name, p.type, is_key=is_key) for p in self._parameters)
        self._is_key = is_key
        self.are_told_apart_by_python = all(one.is_told_apart_by_python for one in self._each)
        self.may_hold_nan = self.are_told_apart_by_python and any(one.may_hold_nan for one in self._each)
        self.are_changeable = any(one.is_changeable for one in self._each)
        self._are_always_canonical = all(one.is_always_canonical for one in self._each)
        self._decoders = _Decoders(tuple(one.decodable for one in self._each))
        self._all = self._decoders.of(len(self._each))
        self._head = _msgpack.encode([None] * len(self._each))[: -len(self._each) or None]

    # -- canonical arguments
    def canonical(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """Return the canonical arguments for values, one for each parameter.

        Raises:
            InvalidArgument: one of them does not fit its parameter, cannot travel or is too large; `field` names it.
        """
        if self._is_key and (self.may_hold_nan or not self.are_told_apart_by_python):
            settled = [one.settle(value) for one, value in zip(self._each, values, strict=True)]
            held = any(one.holds_nan(encoded) for one, (_, encoded) in zip(self._each, settled, strict=True))
            if held or not self.are_told_apart_by_python:
                parts = [encoded for _, encoded in settled]
                return EncodedArguments([value for value, _ in settled], self._join(parts))
        for one, value in zip(self._each, values, strict=True):
            if not one.takes(value):
                break
        else:  # nearly always
            return tuple(values)
        measured = [one.canonical(value) for one, value in zip(self._each, values, strict=True)]
        self._check_sizes([size for _, size in measured])
        return tuple([value for value, _ in measured])

    def probe(self, values: Sequence[Any]) -> EncodedArguments:
        """Return arguments that find the canonical ones for these values in a dictionary (not told apart by Python).

        Raises:
            InvalidArgument: as in `canonical`.
        """
        return EncodedArguments(values, self._join([one.encode(v) for one, v in zip(self._each, values, strict=True)]))

    def copy(self, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return a copy of arguments that could be changed; others as they are."""
        if not self.are_changeable:
            return arguments
        values: tuple[Any, ...] = self._all.msgpack.decode(self.encode(arguments))
        return values

    def as_key(self, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the same arguments anew, as those of a key: equal ones are the same, digit by digit.

        Raises:
            InvalidArgument: one of them cannot leave the process; `field` names its parameter.
        """
        if self._is_key and not self.are_changeable:
            return arguments
        values: tuple[Any, ...] = self._all.msgpack.decode(self.encode_as_key(arguments))
        return values

    def _join(self, parts: list[bytes]) -> bytes:
        encoded = self._head + b"".join(parts)
        if len(encoded) > MAX_ARGUMENTS_BYTES:
            self._check_sizes([len(part) for part in parts])
        return encoded

    def _check_sizes(self, sizes: list[int]) -> None:
        total = sum(sizes)
        if total > MAX_ARGUMENTS_BYTES - len(self._head):
            raise self._too_large(total, self._parameters[sizes.index(max(sizes))].name)

    # -- encoding
    def encode(self, arguments: tuple[Any, ...]) -> bytes:
        """Arguments as a msgpack array; equal ones of a key in one way.

        Raises:
            InvalidArgument: one of them cannot leave the process; `field` names its parameter.
        """
        if isinstance(arguments, EncodedArguments):
            return arguments.encoded
        return self._join([one.encode(value) for one, value in zip(self._each, arguments, strict=True)])

    def encode_as_key(self, arguments: tuple[Any, ...]) -> bytes:
        """Return the same bytes for equal arguments, whether or not they are a key.

        Raises:
            InvalidArgument: as in `encode`.
        """
        return self._join([one.encode_key(value) for one, value in zip(self._each, arguments, strict=True)])

    def encode_one(self, index: int, arguments: tuple[Any, ...]) -> bytes:
        """Return the bytes of one argument, the same for equal ones: shard keys are made of them."""
        if isinstance(arguments, EncodedArguments):  # not from the value, which somebody may have changed
            return bytes(_COUNT.msgpack.decode(arguments.encoded)[index])
        return self._each[index].encode_key(arguments[index])

    def encode_json(self, arguments: tuple[Any, ...]) -> str:
        """Arguments as a JSON array.

        Raises:
            InvalidArgument: one of them cannot leave the process; `field` names its parameter.
        """
        try:
            return _json.encode(tuple(arguments)).decode()
        except (FusionError, *ENCODING_ERRORS) as error:
            for one, argument in zip(self._each, arguments, strict=False):
                one.encode(argument)
            raise InvalidArgument(f"{self.name}: the arguments cannot be encoded: {error}") from error

    # -- decoding
    def decode_msgpack(self, encoded: bytes) -> tuple[Any, ...]:
        """Return canonical arguments from a msgpack array; trailing ones that are missing get their defaults.

        Raises:
            InvalidArgument: wrong count or type, or not an array; `field` names the parameter.
        """
        self._check_length(len(encoded))
        try:
            decoded: tuple[Any, ...] = self._all.msgpack.decode(encoded)
        except (FusionError, *DECODING_ERRORS) as error:
            return self.canonical(self._decode_fewer(encoded, error, is_json=False))
        if self._are_always_canonical:
            return decoded
        if not self._is_key:
            self._check_depth(decoded)
            return decoded
        if not self.are_told_apart_by_python and self.probe(decoded).encoded == encoded:
            return EncodedArguments(decoded, encoded)
        return self.canonical(decoded)

    def decode_json(self, encoded: str | bytes) -> tuple[Any, ...]:
        """Return canonical arguments from a JSON array; trailing ones that are missing get their defaults.

        Raises:
            InvalidArgument: wrong count or type, or not an array; `field` names the parameter.
        """
        self._check_length(len(encoded))
        try:
            decoded = self._all.json.decode(encoded)
        except (FusionError, *DECODING_ERRORS) as error:
            decoded = self._decode_fewer(encoded, error, is_json=True)
        return self.canonical(decoded)

    def from_builtins(self, arguments: Sequence[Any]) -> tuple[Any, ...]:
        """Return canonical arguments from plain values, such as the JSON of a command line.

        Raises:
            InvalidArgument: wrong count or type; `field` names the parameter.
        """
        self._check_count(len(arguments))
        hint = self._decoders.of(len(arguments)).hint
        try:
            decoded: tuple[Any, ...] = msgspec.convert(list(arguments), hint, dec_hook=hooks.from_json)
        except (FusionError, *DECODING_ERRORS) as error:
            raise self._unfit(error) from error
        return self.canonical(self._with_defaults(decoded))

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
        except (FusionError, *DECODING_ERRORS) as error:
            raise self._unfit(error) from error
        return self._with_defaults(decoded)

    def _with_defaults(self, decoded: tuple[Any, ...]) -> tuple[Any, ...]:
        return decoded + tuple(parameter.default for parameter in self._parameters[len(decoded) :])

    def _check_length(self, length: int) -> None:
        if length > MAX_ARGUMENTS_BYTES:
            raise self._too_large(length, "arguments")

    def _check_depth(self, decoded: tuple[Any, ...]) -> None:
        for one, value in zip(self._each, decoded, strict=True):
            if not one.is_always_canonical and _is_too_deep(value):
                raise one.refusal(f"nested deeper than {MAX_DEPTH}")

    def _too_large(self, length: int, field: str) -> InvalidArgument:
        return InvalidArgument(
            f"{self.name}: the arguments are {length:,} bytes long, more than {MAX_ARGUMENTS_BYTES:,}"
            + (f"; the longest is {field!r}" if field != "arguments" else ""),
            field=field,
        )

    def _check_count(self, count: int) -> None:
        parameters = self._parameters
        if count > len(parameters):
            names = ", ".join(parameter.name for parameter in parameters)
            raise InvalidArgument(
                f"{self.name} takes {len(parameters)} argument{'s' * (len(parameters) != 1)} ({names}), not {count}",
                field="arguments",
            )
        for parameter in parameters[count:]:
            if parameter.is_required:
                raise InvalidArgument(f"{self.name}: the argument {parameter.name!r} is missing", field=parameter.name)

    def _unfit(self, error: BaseException) -> InvalidArgument:
        """Which parameter the error is about: msgspec says `at $[1].price`."""
        reason = reason_of(error)
        place = _PLACE.search(reason)
        if place is None:
            return InvalidArgument(f"{self.name}: the arguments: {reason}", field="arguments")
        one = self._each[int(place["index"])]
        return one.refusal(reason[: place.start()] + (f" - at `${place['rest']}`" if place["rest"] else ""))


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


def _is_too_deep(value: Any) -> bool:
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
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


def _tuple_of(hints: tuple[Any, ...]) -> Any:
    return tuple[hints] if hints else tuple[()]  # type: ignore[valid-type]
