"""One parameter's arguments: canonical values, which are exactly what decoding makes of their bytes.

Invariant: a canonical value decodes from its bytes to an equal value of the same types, which has the same bytes. It is
so by construction: a value is encoded and decoded until its bytes stay the same, which most do at once.
"""

from __future__ import annotations

import enum
import math
import re
import types
import typing
import uuid
from collections.abc import Callable, Iterable
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Final, get_args, get_origin

import msgspec

from fusion_cluster.errors import FusionError, InvalidArgument, UsageError
from fusion_cluster.wire import hooks
from fusion_cluster.wire.arrow import library_of
from fusion_cluster.wire.description import type_name
from fusion_cluster.wire.hints import custom_classes, decodable
from fusion_cluster.wire.limits import MAX_PAYLOAD_SIZE
from fusion_cluster.wire.scalars import NAN_DECIMAL, Spelling
from fusion_cluster.wire.spelling import Speller
from fusion_cluster.wire.traits import is_changeable, is_told_apart_by_python, may_hold_nan
from fusion_cluster.wire.values import DECODING_ERRORS, ENCODING_ERRORS, reason_of

MAX_ARGUMENTS_BYTES: Final = MAX_PAYLOAD_SIZE
"""The most bytes that the arguments of one call may take, encoded: from Python and JSON, in every setting."""

_SMALL_BYTES: Final = 2**16
_MAX_PASSES: Final = 4
_NAN: Final = msgspec.msgpack.encode(math.nan)
_encode: Final = msgspec.msgpack.Encoder(enc_hook=hooks.to_msgpack).encode
_PLACE: Final = re.compile(r" - at `\$(?P<rest>.*)`$", re.DOTALL)
_PLAIN: Final = frozenset({int, str, bytes, bool, types.NoneType, uuid.UUID, date, timedelta})


class EncodedArguments(tuple[Any, ...]):
    """Canonical arguments that are told apart by their bytes, not by what Python finds equal.

    Attributes:
        encoded: all of them as a msgpack array.
    """

    encoded: bytes

    def __new__(cls, values: Iterable[Any], encoded: bytes) -> EncodedArguments:
        """Arguments with their bytes."""
        self = super().__new__(cls, values)
        self.encoded = encoded
        return self

    def __hash__(self) -> int:
        return hash(self.encoded)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EncodedArguments) and self.encoded == other.encoded

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (tuple(self), self.encoded)


class ArgumentCodec:
    """Codec of the arguments for one parameter: canonical values, and bytes.

    Args:
        method: full name of the method.
        name: of the parameter.
        hint: its type.
        is_key: equal arguments have equal bytes, as those of compute methods must.

    Attributes:
        decodable: the hint, as msgspec takes it.
        is_told_apart_by_python: see `traits`.
        may_hold_nan: see `traits`.
        is_changeable: code that has the value can change it.
        is_always_canonical: whatever is decoded is canonical.

    Raises:
        UsageError: values of the type cannot travel; `field` names the parameter.
    """

    def __init__(self, method: str, name: str, hint: Any, *, is_key: bool) -> None:
        self.name = name
        self._method = method
        try:
            self.decodable = decodable(hint)
            if is_key:
                _refuse_arrays(self.decodable)
            self._decode: Callable[[bytes], Any] = msgspec.msgpack.Decoder(
                self.decodable, dec_hook=hooks.from_msgpack
            ).decode
            self._spell_key = Speller(is_key=True).of(hint)
            self._spell = self._spell_key if is_key else Speller(is_key=False).of(hint)
            self.is_told_apart_by_python = is_told_apart_by_python(hint)
            self.may_hold_nan = self.is_told_apart_by_python and may_hold_nan(hint)
            self.is_changeable = is_changeable(hint)
        except (UsageError, TypeError, NameError, RecursionError) as error:
            raise UsageError(f"{method}: {name}: {reason_of(error)}", field=name) from error
        self._is_key = is_key
        plain = _plain_classes(hint)
        self.is_always_canonical = plain is not None
        self._plain: frozenset[type] = plain or frozenset()

    def canonical(self, value: Any) -> tuple[Any, int]:
        """Return the canonical value and its size in bytes; 0 where that is small.

        Raises:
            InvalidArgument: it is not of the parameter's type, would arrive as another value, or is too large.
        """
        if self.takes(value):
            return value, 0
        settled, encoded = self.settle(value)
        if self._is_key and isinstance(settled, float | Decimal) and settled != settled:
            settled = math.nan if isinstance(settled, float) else NAN_DECIMAL  # it equals only itself: there is one
        return settled, len(encoded)

    def holds_nan(self, encoded: bytes) -> bool:
        """Tell whether the bytes may be those of a canonical value with NaN in it."""
        return self.may_hold_nan and (_NAN in encoded or b"NaN" in encoded)

    def takes(self, value: Any) -> bool:
        """Tell whether a value is canonical; False also where finding out takes longer."""
        kind = type(value)
        if kind not in self._plain:
            return False
        if kind is int:
            return bool(-(2**63) <= value < 2**64)
        if kind is str:
            return bool(len(value) < _SMALL_BYTES and value.isascii())
        return bool(kind is not bytes or len(value) < _SMALL_BYTES)

    def settle(self, value: Any) -> tuple[Any, bytes]:
        """Return the canonical value and its bytes.

        Raises:
            InvalidArgument: as in `canonical`.
        """
        encoded = self.encode(value)
        for _ in range(_MAX_PASSES):
            decoded = self.decode(encoded)
            if not self._is_key:
                return decoded, encoded
            again = self.encode(decoded)
            if again == encoded:
                return decoded, encoded
            encoded = again
        raise self.refusal(f"a {type(value).__name__} that is decoded and encoded is another each time")

    def encode(self, value: Any) -> bytes:
        """Return the bytes of a value; they are those of the canonical value if it is canonical.

        Raises:
            InvalidArgument: it cannot leave the process, or is too large.
        """
        return self._encode(value, self._spell)

    def encode_key(self, value: Any) -> bytes:
        """Return the same bytes for equal values, whether or not they are a key.

        Raises:
            InvalidArgument: as in `encode`.
        """
        return self._encode(value, self._spell_key)

    def _encode(self, value: Any, spell: Spelling) -> bytes:
        if type(value) in self._plain:
            spelled = value
        else:
            try:
                spelled = spell(value)
            except (FusionError, AttributeError, ArithmeticError, *ENCODING_ERRORS) as error:
                raise self.refusal(reason_of(error)) from error
        try:
            encoded = _encode(spelled)
        except (FusionError, *ENCODING_ERRORS) as error:
            raise self.refusal(f"it cannot be encoded: {reason_of(error)}") from error
        if len(encoded) > MAX_ARGUMENTS_BYTES:
            raise self.refusal(f"it takes {len(encoded):,} bytes, more than {MAX_ARGUMENTS_BYTES:,}")
        return encoded

    def decode(self, encoded: bytes) -> Any:
        """Return the value that the bytes encode.

        Raises:
            InvalidArgument: they do not fit the parameter's type.
        """
        try:
            return self._decode(encoded)
        except (FusionError, *DECODING_ERRORS) as error:
            raise self.refusal(reason_of(error)) from error

    def refusal(self, reason: str) -> InvalidArgument:
        """Return the error that names the method and the parameter. msgspec says `at $.price`."""
        place = _PLACE.search(reason)
        if place is not None:
            reason = f"{reason[: place.start()]} (at {self.name}{place['rest']})"
        return InvalidArgument(f"{self._method}: {self.name}: {reason}", field=self.name)


def _refuse_arrays(hint: Any) -> None:
    for kind in custom_classes(hint):
        if library_of(kind) is not None:
            raise UsageError(
                f"a {type_name(kind)} cannot be an argument of a compute method, for equal ones may have other bytes: "
                "take what it is made from, or a tuple of its values"
            )


def _plain_classes(hint: Any) -> frozenset[type] | None:
    """Return the classes of which every small value is canonical; None if the hint has other classes as well."""
    while isinstance(hint, typing.NewType):
        hint = hint.__supertype__
    if get_origin(hint) in (typing.Union, types.UnionType):
        members = [_plain_classes(member) for member in get_args(hint)]
        known = [member for member in members if member is not None]
        return frozenset[type]().union(*known) if len(known) == len(members) and is_told_apart_by_python(hint) else None
    if hint is None:
        return frozenset({types.NoneType})
    is_plain = isinstance(hint, type) and (hint in _PLAIN or issubclass(hint, enum.Enum))
    return frozenset({hint}) if is_plain else None
