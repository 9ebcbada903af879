"""What the shop's compute methods give."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True)
class Product:
    id: int
    name: str
    price: Decimal


@dataclass(frozen=True)
class Item:
    product_id: int
    quantity: int
