"""Routes: for each method of an app, how a call becomes bytes and a slot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fusion_cluster.app import App, MethodSpec
from fusion_cluster.protocol.slot_map import slot_of
from fusion_cluster.wire.codec import ArgumentsCodec, ValueCodec, encode_msgpack, value_codec


class Route:
    """How calls of one method travel.

    Attributes:
        name: "Carts.total".
        arguments: codec of the canonical arguments.
        result: codec of the method's result, by its type hint.
    """

    __slots__ = ("_shard_group", "_shard_key", "arguments", "name", "result")

    def __init__(self, spec: MethodSpec) -> None:
        self.name = spec.name
        self.arguments = ArgumentsCodec(spec.signature)
        self.result: ValueCodec[Any] = value_codec(spec.signature.result_type)
        self._shard_group = spec.service.shard_group
        self._shard_key = _shard_key(spec)

    def slot(self, arguments: tuple[Any, ...]) -> int:
        """The slot that owns a call with these canonical arguments."""
        return slot_of(self._shard_group, self._shard_key(arguments))


def routes_of(app: App) -> dict[str, Route]:
    """The route of every compute method and command of the app."""
    return {name: Route(spec) for name, spec in app.methods.items()}


def _shard_key(spec: MethodSpec) -> Callable[[tuple[Any, ...]], bytes]:
    shard_by = spec.method.shard_by
    if shard_by is not None:
        index = [parameter.name for parameter in spec.signature.parameters].index(shard_by)
        return lambda arguments: encode_msgpack(arguments[index])
    if not spec.signature.parameters:
        return lambda arguments: b""
    return lambda arguments: encode_msgpack(arguments[0])
