"""The loader's promises, with a handful of rows in place of the real ones."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from rich.console import Console

from examples.flights.dataset import loading
from examples.flights.dataset.errors import FlightsDataError
from examples.flights.dataset.folder import complete_path
from examples.flights.dataset.loading import is_complete, load_flights
from examples.flights.dataset.progress import load_progress
from examples.flights.dataset.source import Row, Source
from examples.flights.schema import SCHEMA_VERSION, airlines


class FewRows:
    """A source of two airlines, that counts how often it is read and can break in the middle."""

    def __init__(self, *, announced: int = 2, breaks: bool = False) -> None:
        self.read_count = 0
        self.announced = announced
        self.breaks = breaks

    def __call__(self) -> Iterator[Source]:
        self.read_count += 1
        yield Source(airlines, self.announced, self._rows())
        if self.breaks:
            raise KeyboardInterrupt

    def _rows(self) -> Iterator[Row]:
        yield {"carrier": "AA", "name": "American"}
        yield {"carrier": "UA", "name": "United"}


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> FewRows:
    source = FewRows()
    monkeypatch.setattr(loading, "sources", source)
    return source


def rows_of(path: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT carrier, name FROM airlines ORDER BY carrier").fetchall()


def test_what_is_loaded_is_loaded_once(few_rows: FewRows, tmp_path: Path) -> None:
    path = load_flights(tmp_path / "new" / "folder")
    assert load_flights(tmp_path / "new" / "folder") == path
    assert rows_of(path) == [("AA", "American"), ("UA", "United")]
    assert few_rows.read_count == 1


def test_a_load_that_was_killed_is_done_again_and_leaves_nothing(few_rows: FewRows, tmp_path: Path) -> None:
    few_rows.breaks = True
    with pytest.raises(KeyboardInterrupt):
        load_flights(tmp_path)
    assert not is_complete(complete_path(tmp_path))
    few_rows.breaks = False
    assert len(rows_of(load_flights(tmp_path))) == 2
    assert not list(tmp_path.glob("*.partial*"))


def test_a_file_that_is_not_marked_complete_is_loaded_again(few_rows: FewRows, tmp_path: Path) -> None:
    path = complete_path(tmp_path)
    path.write_bytes(b"half a file")
    assert not is_complete(path)
    assert is_complete(load_flights(tmp_path))


def test_tables_of_another_version_are_loaded_again(few_rows: FewRows, tmp_path: Path) -> None:
    path = load_flights(tmp_path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    load_flights(tmp_path)
    assert few_rows.read_count == 2


def test_another_number_of_rows_than_known_is_refused(few_rows: FewRows, tmp_path: Path) -> None:
    few_rows.announced = 3
    with pytest.raises(FlightsDataError, match="has 2 airlines and not 3"):
        load_flights(tmp_path)
    assert not is_complete(complete_path(tmp_path))


def test_a_folder_that_cannot_be_written_is_named(few_rows: FewRows, tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a folder")
    with pytest.raises(FlightsDataError, match=r"file cannot be written; set FUSION_FLIGHTS_DATA to another folder"):
        load_flights(in_the_way)


def test_a_full_disk_is_called_that(few_rows: FewRows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_set_pragmas", lambda connection, _: connection.execute("PRAGMA max_page_count = 1"))
    with pytest.raises(FlightsDataError, match=r"the disk of .* is full .*; set FUSION_FLIGHTS_DATA to another folder"):
        load_flights(tmp_path)


def test_without_a_terminal_each_table_is_one_plain_line(few_rows: FewRows, tmp_path: Path) -> None:
    text = io.StringIO()
    with load_progress(Console(file=text)) as progress:
        load_flights(tmp_path, progress)
    assert text.getvalue() == "loading 2 airlines\n"


def test_on_a_terminal_there_is_a_bar(few_rows: FewRows, tmp_path: Path) -> None:
    text = io.StringIO()
    with load_progress(Console(file=text, force_terminal=True, width=80)) as progress:
        load_flights(tmp_path, progress)
    assert "airlines" in text.getvalue()
    assert "2/2" in text.getvalue()
