"""`fusion-cluster upgrade-database`: what it says, and how it ends."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from fusion_cluster.cli.main import FAILED, MISUSED, OK, run
from fusion_cluster.database.migrations import NEWEST, VERSION_TABLE

pytestmark = pytest.mark.empty_database

pytest_plugins = ["tests.databases"]


def said(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = run(["upgrade-database", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_it_says_what_it_has_done_and_that_there_was_nothing_to_do(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = said([database_url], capsys)
    assert (code, err) == (OK, "")
    assert out.endswith(f": tables made, at revision {NEWEST}\n")
    code, out, err = said([database_url], capsys)
    assert (code, err) == (OK, "")
    assert out.endswith(f": tables are already at revision {NEWEST}, the newest\n")


def test_it_finds_the_database_by_its_app(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "app_to_upgrade.py").write_text(
        "from fusion_cluster import App, Database\n"
        f"app = App('shop', database=Database('sqlite:///{tmp_path}/shop.db'))\n"
        "other = App('other')\n"
    )
    code, out, err = said(["app_to_upgrade:app"], capsys)
    assert (code, err) == (OK, "")
    assert out.endswith(f"shop.db: tables made, at revision {NEWEST}\n")
    code, out, err = said(["app_to_upgrade:other"], capsys)
    assert (code, out) == (MISUSED, "")
    assert "no database" in err


def test_tables_newer_than_the_library_are_a_misuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path}/new.db"
    assert said([url], capsys)[0] == OK
    with closing(sqlite3.connect(tmp_path / "new.db")) as connection, connection:
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    code, out, err = said([url], capsys)
    assert (code, out) == (MISUSED, "")
    assert "revision 9999" in err
    assert f"revision {NEWEST}" in err


@pytest.mark.parametrize("name", ["nothing://", "sqlite://", "no_such_module:app", "tests.unit.cli:app"])
def test_what_names_no_database_is_a_misuse(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = said([name], capsys)
    assert (code, out) == (MISUSED, "")
    assert err.startswith("error: ")


def test_a_server_that_is_not_there_is_a_failure_and_its_password_no_secret_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, err = said(["postgresql://shop:secret@127.0.0.1:1/shop"], capsys)
    assert (code, out) == (FAILED, "")
    assert "127.0.0.1" in err
    assert "secret" not in err
    assert "Traceback" not in err
