"""What is printed of exceptions that cannot be printed, or are groups of very many."""

from __future__ import annotations

import logging
import traceback
from contextlib import suppress

import pytest

from fusion_cluster import ComputedState, FixedDelayer
from fusion_cluster.failures.exits import TRACEBACK
from fusion_cluster.failures.printing import UnprintableError, printable
from fusion_cluster.testing import run_in_virtual_time
from fusion_cluster.wire.errors import encode_error
from tests.faults.odd_errors import EXCEPTIONS, EXITS, Unspeakable


@pytest.mark.parametrize("kind", [*EXCEPTIONS, *EXITS])
def test_every_odd_error_is_printed_with_its_class(kind: str) -> None:
    error = {**EXCEPTIONS, **EXITS}[kind]()
    with suppress(type(error)):
        raise error
    shown = printable(error)
    text = "".join(traceback.format_exception(type(shown), shown, TRACEBACK.__get__(shown)))
    assert type(error).__name__ in text
    assert "raise error" in text


def test_a_group_is_cut_to_what_is_shown_and_is_left_as_it_was() -> None:
    members = [ValueError(number) for number in range(100_000)]
    group = ExceptionGroup("wide", [ExceptionGroup("inner", members), KeyError("last")])
    shown = printable(group)
    assert isinstance(shown, BaseExceptionGroup)
    text = "".join(traceback.format_exception(shown))
    assert "ValueError: 14" in text
    assert "KeyError: 'last'" in text
    assert "and 99,985 more exceptions" in text
    assert len(shown.exceptions[0].exceptions) == 15
    assert len(group.exceptions[0].exceptions) == 100_000  # type: ignore[union-attr]
    assert not hasattr(group, "__notes__")
    small = ExceptionGroup("small", members[:15])
    assert printable(small) is small


def test_a_group_as_deep_as_it_likes_is_printed_and_travels() -> None:
    group: Exception = ValueError("inmost")
    for level in range(5_000):
        group = ExceptionGroup(f"level {level}", [group])
    assert "level 4999" in "".join(traceback.format_exception(printable(group)))
    assert "level 4999" in encode_error(group, for_member=True).traceback


def test_a_classifier_that_fails_on_an_error_that_cannot_be_printed_breaks_no_line_of_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails(error: Exception) -> bool:
        raise KeyError("no idea") from error

    async def main() -> None:
        async def compute() -> int:
            raise Unspeakable

        async with ComputedState(compute, update_delayer=FixedDelayer(0), is_transient=fails) as state:
            await state.snapshot.when_updated()

    run_in_virtual_time(main())
    record = next(record for record in caplog.records if "the classifier failed" in record.message)
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], UnprintableError)
    assert "KeyError: 'no idea'" in logging.Formatter().format(record)
