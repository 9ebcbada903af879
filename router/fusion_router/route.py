"""Routes: for each method of an app, how a call becomes bytes and a slot."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from fusion_cluster.app import App, MethodSpec
from fusion_cluster.errors import UsageError
from fusion_cluster.protocol.slot_map import slot_of
from fusion_cluster.wire.codec import ArgumentsCodec, ValueCodec, encode_msgpack, value_codec
from fusion_cluster.wire.spelling import canonical


class Route:
    """How calls of one method travel.

    Attributes:
        name: "Carts.total".
        arguments: codec of the canonical arguments.
        result: codec of the method's result, by its type hint.

    Raises:
        UsageError: `shard_by` names no parameter of the method.
    """

    __slots__ = ("_shard_group", "_shard_key", "arguments", "name", "result")

    def __init__(self, spec: MethodSpec) -> None:
        self.name = spec.name
        self.arguments = spec.signature.codec
        self.result: ValueCodec[Any] = value_codec(spec.signature.result_type)
        self._shard_group = spec.service.shard_group
        self._shard_key = _shard_key(spec, self.arguments)

    def slot(self, arguments: tuple[Any, ...]) -> int:
        """The slot that owns a call with these canonical arguments."""
        return slot_of(self._shard_group, self._shard_key(arguments))


def routes_of(app: App) -> dict[str, Route]:
    """The route of every compute method and command of the app."""
    return {name: Route(spec) for name, spec in app.methods.items()}


def _shard_key(spec: MethodSpec, codec: ArgumentsCodec) -> Callable[[tuple[Any, ...]], bytes]:
    shard_by = spec.shard_by
    if callable(shard_by):
        return lambda arguments: encode_msgpack(canonical(shard_by(*arguments)))
    names = [parameter.name for parameter in spec.signature.parameters]
    if shard_by is not None:
        if shard_by not in names:
            raise UsageError(f"{spec.name} has no parameter {shard_by!r} to shard by", field="shard_by")
        return partial(codec.encode_one, names.index(shard_by))
    return partial(codec.encode_one, 0) if names else lambda arguments: b""
