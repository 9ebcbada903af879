"""Values are compared by what they are to a reader in another process."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

from fusion_cluster import App, ComputeService, compute_method
from fusion_cluster.catalogue.method import Method
from fusion_cluster.errors import FusionError
from fusion_cluster.verification.comparing import MAX_BYTES, difference_of, digest_of, is_same, normal_form


@dataclass(frozen=True)
class Box:
    names: frozenset[str]
    weight: float = 0.0


class Forms(ComputeService):
    @compute_method
    async def number(self) -> float:
        return 0.0

    @compute_method
    async def names(self) -> set[str]:
        return set()

    @compute_method
    async def box(self) -> Box:
        return Box(frozenset())

    @compute_method
    async def table(self) -> dict[str, list[int]]:
        return {}

    @compute_method
    async def anything(self) -> Any:
        return None


app = App("forms", services=[Forms])


def form(name: str, value: object) -> bytes:
    return normal_form(method(name), value)


def method(name: str) -> Method:
    return app.methods[f"Forms.{name}"]


def test_a_number_has_the_form_of_its_annotation() -> None:
    assert form("number", 1) == form("number", 1.0)
    assert form("number", 1) != form("number", 2)


def test_the_order_of_a_set_does_not_count() -> None:
    values = [{"a", "b"}, {"b", "a"}, {"b", "c", "a"} - {"c"}]
    assert len({digest_of(form("names", value)) for value in values}) == 1
    assert form("names", {"a"}) != form("names", {"a", "b"})


def test_a_set_that_arrives_as_a_list_is_compared_without_its_order_if_it_is_known_to_be_a_set() -> None:
    first, second = form("anything", ["a", "b"]), form("anything", ["b", "a"])
    assert is_same(first, second, have_sets=True)
    assert not is_same(first, second)


def test_the_order_of_a_set_within_a_record_does_not_count() -> None:
    first, second = Box(frozenset("abcdefg")), Box(frozenset(reversed("abcdefg")))
    assert form("box", first) == form("box", second)
    assert form("box", first) != form("box", Box(frozenset("abcdefg"), 1.0))


def test_the_order_of_the_keys_of_a_dictionary_does_not_count_and_that_of_a_list_does() -> None:
    assert is_same(form("table", {"a": [1], "b": [2]}), form("table", {"b": [2], "a": [1]}))
    assert not is_same(form("table", {"a": [1, 2]}), form("table", {"a": [2, 1]}))


def test_numbers_of_several_kinds_differ_where_the_annotation_leaves_them() -> None:
    assert not is_same(form("anything", 1), form("anything", True))
    assert not is_same(form("anything", 1), form("anything", 1.0))


def test_what_cannot_be_compared_says_so() -> None:
    with pytest.raises(FusionError):
        form("anything", object())
    with pytest.raises(FusionError, match="1,048,576"):
        form("anything", b"x" * (MAX_BYTES + 1))


def test_a_difference_is_described_in_words() -> None:
    assert difference_of(form("table", {"a": [1]}), {"a": [3]}) == "['a'][0] was 1 and is 3"
    assert difference_of(form("anything", Decimal("1.5")), object()) != ""
