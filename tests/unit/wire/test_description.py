from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal, Optional, TypeVar

import jsonschema
import msgspec
import pyarrow as pa
import pydantic
import pytest

from fusion_cluster.wire.codec import encode_json
from fusion_cluster.wire.description import json_schema, type_name

T = TypeVar("T")


@dataclass
class Item:
    name: str
    price: Decimal


@dataclass
class Box:
    items: list[Item]
    inner: Box | None = None


class Line(pydantic.BaseModel):
    text: str


class Page(pydantic.BaseModel):
    lines: list[Line]


class Opaque:
    pass


@pytest.mark.parametrize(
    ("hint", "name"),
    [
        (int, "int"),
        (None, "None"),
        (type(None), "None"),
        (Any, "Any"),
        (Item, "Item"),
        (Item | None, "Item | None"),
        (Optional[int], "int | None"),  # noqa: UP045
        (list[Decimal], "list[Decimal]"),
        (dict[str, list[Item]], "dict[str, list[Item]]"),
        (tuple[int, ...], "tuple[int, ...]"),
        (Literal["a", 1], "Literal['a', 1]"),
        (Annotated[int, "x"], "int"),
        (Sequence[int], "Sequence[int]"),
        (Callable[[int], str], "Callable[[int], str]"),
        (T, "T"),
        (pa.Table, "Table"),
    ],
)
def test_types_have_readable_names(hint: Any, name: str) -> None:
    assert type_name(hint) == name


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (int, 1),
        (Box, Box([Item("a", Decimal(1))], Box([]))),
        (Page, Page(lines=[Line(text="a")])),
        (list[Page | None], [None, Page(lines=[])]),
        (Item | Line, Line(text="a")),
        (Page | Line | int, Page(lines=[Line(text="a")])),
        (pa.Table, pa.table({"a": [1]})),
        (dict[str, pa.Table], {"a": pa.table({"a": [1]})}),
    ],
)
def test_a_value_satisfies_the_schema_of_its_type(hint: Any, value: Any) -> None:
    schema = json_schema(hint)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(msgspec.json.decode(encode_json(value)))
    assert not validator.is_valid({"nonsense": 1})


@pytest.mark.parametrize("hint", [Any, T, Opaque, Callable[[int], str], complex])
def test_a_type_without_a_schema_allows_anything(hint: Any) -> None:
    assert jsonschema.Draft202012Validator(json_schema(hint)).is_valid({"nonsense": 1})
