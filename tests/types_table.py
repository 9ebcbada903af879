"""What may be an argument or a result: each cell of the table in docs/types.md, really tried.

`python -m tests.types_table` writes the table.
"""

from __future__ import annotations

import asyncio
import datetime
import enum
import fractions
import ipaddress
import json
import pathlib
import uuid
import zoneinfo
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, NamedTuple, TypedDict

import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pydantic

from fusion_cluster import App, ComputeService, command, compute_method
from fusion_cluster.client import connect
from fusion_cluster.errors import UsageError
from fusion_cluster.wire.codec import encode_json, value_codec
from tests.architecture.sources import ROOT
from tests.clients import fronted
from tests.gateways import serving

PAGE = ROOT / "docs" / "types.md"
HEAD = "| type | argument of a compute method | argument of a command | result | in JSON |\n|---|---|---|---|---|\n"


class Color(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Mixed(enum.Enum):
    PAIR = (1, 2)


@dataclass(frozen=True)
class Place:
    x: float
    tags: frozenset[str] = frozenset()


@dataclass
class Basket:
    items: list[int] = field(default_factory=list)


class Range(msgspec.Struct, frozen=True):
    low: int


class Corner(NamedTuple):
    x: int
    y: int


class Order(pydantic.BaseModel):
    total: Decimal


class Options(TypedDict):
    limit: int


class Connection:
    """A class of the user that nothing knows how to encode."""


NOON = datetime.datetime(2024, 7, 1, 14, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))
ROWS: tuple[tuple[str, Any, Any], ...] = (
    ("`int` (64 bits)", int, 7),
    ("`float`", float, 1.5),
    ("`bool`", bool, True),
    ("`str`", str, "é"),
    ("`bytes`", bytes, b"ab"),
    ("`None`", None, None),
    ("`int \\| None`", int | None, 7),
    ("`int \\| str`", int | str, "a"),
    ("`int \\| float`", int | float, 1.0),
    ("`Decimal`", Decimal, Decimal("1.5")),
    ("`Fraction`", fractions.Fraction, fractions.Fraction(1, 3)),
    ("`complex`", complex, 1 + 2j),
    ("`UUID`", uuid.UUID, uuid.UUID(int=1)),
    ("`datetime`", datetime.datetime, NOON.astimezone(datetime.UTC)),
    ("`date`", datetime.date, datetime.date(2024, 7, 1)),
    ("`time`", datetime.time, datetime.time(12, 30)),
    ("`timedelta`", datetime.timedelta, datetime.timedelta(hours=1)),
    ("`ZoneInfo`", zoneinfo.ZoneInfo, zoneinfo.ZoneInfo("Europe/Berlin")),
    ("`Path`", pathlib.Path, pathlib.Path("a/b")),
    ("`IPv4Address` and the like", ipaddress.IPv4Address, ipaddress.IPv4Address("127.0.0.1")),
    ("`Enum` of texts, `StrEnum`", Color, Color.RED),
    ("`Enum` of ints, `IntEnum`", Level, Level.LOW),
    ("`Flag`", Rights, Rights.READ | Rights.WRITE),
    ("`Enum` of other values", Mixed, Mixed.PAIR),
    ('`Literal["a", 1]`', Literal["a", 1], 1),
    ("`tuple`", tuple[int, ...], (1, 2)),
    ("`frozenset`", frozenset[int], frozenset({1, 2})),
    ("`list`", list[int], [1, 2]),
    ("`set`", set[int], {1, 2}),
    ("`dict`", dict[str, int], {"a": 1}),
    ("`Sequence`, `Mapping`", Sequence[Mapping[str, int]], [{"a": 1}]),
    ("frozen dataclass", Place, Place(1.5, frozenset({"a"}))),
    ("dataclass", Basket, Basket([1])),
    ("msgspec `Struct`", Range, Range(1)),
    ("`NamedTuple`", Corner, Corner(1, 2)),
    ("pydantic model", Order, Order(total=Decimal("1.5"))),
    ("`TypedDict`", Options, {"limit": 1}),
    ("union of records", Place | Range | None, Range(1)),
    ("no type, `Any`, `object`", Any, [1, {"a": None}]),
    ("NumPy `ndarray`", np.ndarray, np.arange(6.0).reshape(2, 3)),
    ("pandas `DataFrame`", pd.DataFrame, pd.DataFrame({"a": [1, 2]}, index=["x", "y"])),
    ("pandas `Series`", pd.Series, pd.Series([NOON], name="at")),
    ("polars `DataFrame`", pl.DataFrame, pl.DataFrame({"a": [1, None]})),
    ("polars `Series`", pl.Series, pl.Series("a", ["x"])),
    ("Arrow `Table` and the like", pa.Table, pa.table({"a": [1, 2]})),
    ("`Decimal \\| str`, `list \\| tuple`", Decimal | str, "a"),
    ("any other class", Connection, Connection()),
)


def shown(value: Any) -> str:
    """A value with its class, which nobody can tell from another of the same text."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} {value.tolist()}"
    kind = type(value)
    return f"{kind.__name__}: {value.to_pydict() if isinstance(value, pa.Table) else value!r}"


def service_of(number: int, kind: str, hint: Any, sample: Any) -> type[ComputeService]:
    """A service with one method, whose argument or result is of the type."""
    name = f"{kind.title()}{number}"

    async def key(self: Any, shard: int, value: Any) -> str:
        return shown(value)

    async def take(self: Any, shard: int, value: Any) -> str:
        return shown(value)

    async def give(self: Any, shard: int) -> Any:
        return sample

    body: Any = {"key": key, "take": take, "give": give}[kind]
    body.__annotations__["return" if kind == "give" else "value"] = hint
    method = command(body) if kind == "take" else compute_method(body)
    return type(name, (ComputeService,), {kind: method, "__module__": __name__})


def refusal(service: type[ComputeService]) -> str:
    """Why `App(...)` refuses a service, or nothing."""
    try:
        App("one", [service])
    except UsageError as error:
        return error.message
    return ""


class Table:
    """The services of all rows, in one app, and what became of each cell.

    Attributes:
        refused: row and kind of the cells that `App(...)` refuses.
    """

    def __init__(self) -> None:
        self.services: dict[tuple[int, str], type[ComputeService]] = {}
        self.refused: set[tuple[int, str]] = set()
        for number, (_, hint, sample) in enumerate(ROWS):
            for kind in ("key", "take", "give"):
                service = service_of(number, kind, hint, sample)
                if reason := refusal(service):
                    assert service.__name__ in reason, "the method is named"
                    self.refused.add((number, kind))
                else:
                    self.services[number, kind] = service
        self.app = App("types", list(self.services.values()))

    def text(self) -> str:
        """The table as it stands in the documentation."""
        lines = []
        for number, (name, _, sample) in enumerate(ROWS):
            cells = ["no" if (number, kind) in self.refused else "yes" for kind in ("key", "take", "give")]
            lines.append(f"| {name} | {' | '.join(cells)} | {'' if cells[2] == 'no' else in_json(sample)} |\n")
        return HEAD + "".join(lines)

    async def try_all(self) -> None:
        """Try each cell that is not refused: in one process, in a cluster, by a client and by JSON."""
        async with self.app.local(strict=False) as host:
            await self._try(host.service)
            async with serving(host) as served:
                for (number, kind), service in self.services.items():
                    await self._try_json(served, number, kind, service)
        async with fronted(self.app) as front:
            await self._try(front.cluster.service)
            async with connect(front.address) as client:
                await self._try(client.service)

    async def _try(self, service_in: Callable[[Any], Any]) -> None:
        for (number, kind), service in self.services.items():
            sample = ROWS[number][2]
            method = getattr(service_in(service), kind)
            for shard in range(2 if kind == "give" else 4):
                if kind == "give":
                    assert shown(await method(shard)) == shown(sample), service
                else:
                    assert await method(shard, sample) == shown(sample), service

    async def _try_json(self, served: Any, number: int, kind: str, service: Any) -> None:
        _, hint, sample = ROWS[number]
        if kind == "give":
            text = json.dumps(await served.call(f"{service.__name__}.give", 0))
            assert shown(value_codec(hint).decode_json(text)) == shown(sample)
        elif kind == "key":
            assert await served.call(f"{service.__name__}.key", 0, json.loads(encode_json(sample))) == shown(sample)
        else:
            reply = await served.execute(f"{service.__name__}.take", 0, json.loads(encode_json(sample)))
            assert json.loads(reply.result.json) == shown(sample)


def in_json(sample: Any) -> str:
    """How a value looks in JSON."""
    text = encode_json(sample)
    if len(text) > 60:
        return "base64 of an Arrow IPC stream"
    return f"`{text}`"


def written(page: str, table: str) -> str:
    """The page with the table in its place."""
    start = page.index(HEAD.splitlines()[0])
    rest = page[start:]
    end = rest.find("\n\n")
    return page[:start] + table + (rest[end + 1 :] if end >= 0 else "")


if __name__ == "__main__":
    tried = Table()
    asyncio.run(tried.try_all())
    PAGE.write_text(written(PAGE.read_text(), tried.text()))
