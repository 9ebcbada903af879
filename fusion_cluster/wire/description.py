"""Types as people and other languages read them: a name, and a JSON Schema."""

from __future__ import annotations

import types
import typing
from typing import Any, Union, get_args, get_origin

import msgspec

from fusion_cluster.wire import hooks
from fusion_cluster.wire.arrow import ARROW_MEDIA_TYPE, library_of


def type_name(hint: Any) -> str:
    """Return a readable name: `Product | None`, `list[Decimal]`, `Any`."""
    if hint is None or hint is types.NoneType:
        return "None"
    if hint is Ellipsis:
        return "..."
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " | ".join(map(type_name, arguments))
    if origin is typing.Literal:
        return f"Literal[{', '.join(map(repr, arguments))}]"
    if origin is typing.Annotated:
        return type_name(arguments[0])
    if origin is not None and arguments:
        return f"{type_name(origin)}[{', '.join(map(_argument_name, arguments))}]"
    if isinstance(hint, typing.NewType | typing.TypeVar):
        return str(hint.__name__)
    return (
        hint.__qualname__.rpartition(".<locals>.")[2] if isinstance(hint, type) else str(hint).removeprefix("typing.")
    )


def _argument_name(argument: Any) -> str:
    return f"[{', '.join(map(type_name, argument))}]" if isinstance(argument, list) else type_name(argument)


def json_schema(hint: Any) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a type as it travels in JSON; a title alone if it has no schema."""
    definitions: dict[str, Any] = {}

    def of_custom_type(custom: type) -> dict[str, Any]:
        if library_of(custom) is not None:
            return {"type": "string", "contentEncoding": "base64", "contentMediaType": ARROW_MEDIA_TYPE}
        if hooks.is_pydantic_model(custom):
            schema: dict[str, Any] = custom.model_json_schema(ref_template="#/$defs/{model}")  # type: ignore[attr-defined]
            definitions.update(schema.pop("$defs", {}))
            return schema
        for plain in (int, float, str, bytes):
            if issubclass(custom, plain):
                return msgspec.json.schema(plain)
        return {"title": custom.__name__}

    schema = _schema(hint, of_custom_type)
    if definitions:
        schema["$defs"] = {**definitions, **schema.get("$defs", {})}
    return schema


def _schema(hint: Any, of_custom_type: Any) -> dict[str, Any]:
    try:
        return msgspec.json.schema(hint, schema_hook=of_custom_type)
    except (TypeError, NotImplementedError, RecursionError, NameError):
        pass
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        members = [_schema(member, of_custom_type) for member in arguments]
        shared: dict[str, Any] = {}
        for member in members:
            shared.update(member.pop("$defs", {}))
        return {"anyOf": members, "$defs": shared} if shared else {"anyOf": members}
    return {"title": type_name(hint)}
