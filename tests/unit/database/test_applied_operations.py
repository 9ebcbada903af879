"""What tells of an operation twice invalidates once, and what tells of it in part keeps nothing from the rest."""

from __future__ import annotations

from fusion_cluster.commands import LoggedKey
from fusion_cluster.database.applied_operations import AppliedOperations

ONE: LoggedKey = ("Shelves.amount", b"1", "for a test")
TWO: LoggedKey = ("Shelves.amount", b"2", "")
THREE: LoggedKey = ("Shelves.total", b"1", "")


def test_nothing_is_applied_of_an_operation_that_was_never_heard_of() -> None:
    assert AppliedOperations().missing("a", [ONE, TWO]) == [ONE, TWO]


def test_an_operation_that_was_applied_as_a_whole_misses_nothing() -> None:
    applied = AppliedOperations()
    applied.add("a")
    assert "a" in applied
    assert applied.missing("a", [ONE, TWO]) == []
    assert applied.missing("b", [ONE]) == [ONE]


def test_what_a_push_has_told_in_part_leaves_the_rest_to_the_log() -> None:
    applied = AppliedOperations()
    applied.add_some("a", [ONE[:2]])
    assert "a" not in applied
    assert applied.missing("a", [ONE, TWO, THREE]) == [TWO, THREE]
    applied.add_some("a", [THREE[:2]])
    assert applied.missing("a", [ONE, TWO, THREE]) == [TWO]
    applied.add("a")
    assert applied.missing("a", [ONE, TWO, THREE]) == []


def test_part_of_what_is_applied_as_a_whole_is_no_news() -> None:
    applied = AppliedOperations()
    applied.add("a")
    applied.add_some("a", [ONE[:2]])
    assert "a" in applied


def test_what_belongs_to_no_operation_is_never_applied_already() -> None:
    applied = AppliedOperations()
    applied.add("")
    applied.add_some("", [ONE[:2]])
    assert "" not in applied
    assert applied.missing("", [ONE]) == [ONE]
    assert len(applied) == 0


def test_the_oldest_operations_are_forgotten() -> None:
    applied = AppliedOperations(limit=3)
    for operation_id in "abcd":
        applied.add(operation_id)
    assert [operation_id in applied for operation_id in "abcd"] == [False, True, True, True]


def test_keys_are_counted_too() -> None:
    applied = AppliedOperations(limit=100, reference_limit=10)
    for number in range(20):
        applied.add_some(f"{number}", [("Shelves.amount", bytes([key])) for key in range(4)])
        applied.add_some(f"{number}", [("Shelves.amount", b"\0")])
    assert len(applied) == 2
    assert applied.missing("19", [("Shelves.amount", b"\3", "")]) == []
    applied.add("19")
    applied.add("20")
    assert len(applied) == 3
    applied.add_some("big", [("Shelves.total", bytes([key])) for key in range(11)])
    assert len(applied) == 0, "one that is too large is not remembered, and costs computing it once more"
    applied.add_some("last", [ONE[:2]])
    assert applied.missing("last", [ONE]) == []
