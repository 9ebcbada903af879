"""`fusion-cluster events`: what it shows, and what becomes of the events."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import typer

from fusion_cluster import Database
from fusion_cluster.cli.main import FAILED, MISUSED, OK, run
from fusion_cluster.database.event_claims import EventClaims
from fusion_cluster.events.claims import ClaimedEvent, Verdict
from tests.unit.events.orders import OrderPlaced, OrderShipped, ProductChanged

pytest_plugins = ["tests.databases"]
pytestmark = pytest.mark.any_database

ROOT = Path(__file__).parents[3]


def judge(event: ClaimedEvent) -> Verdict:
    raise AssertionError


async def fill(url: str) -> None:
    """Two dead letters of orders, one of a product, and a shipment that is put off."""
    database = Database(url)
    async with database.operation() as operation:
        for event in (OrderPlaced(1, 1), OrderPlaced(2, 2), ProductChanged(3, 3)):
            operation.emit(event)
        operation.emit(OrderShipped(4, 4), delay_s=7000, key={"customer": 7})
    claims = EventClaims(database, me="host", types=["OrderPlaced", "ProductChanged"], clock=time.time, claim_s=10.0)
    claimed = await claims.claim(10, owned=None, horizon_s=1.0, judge=judge)
    for one in claimed.events:
        await claims.failed(one, Verdict(10, time.time(), True, None, "Mails.on_order: LookupError: [no] address"))
    await database.dispose()


@pytest.fixture
def url(database_url: str) -> str:
    asyncio.run(fill(database_url))
    return database_url


def said(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = run(["events", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def listed(url: str, capsys: pytest.CaptureFixture[str], *options: str) -> list[dict[str, Any]]:
    code, out, err = said(["list", url, "--json", *options], capsys)
    assert (code, err) == (OK, "")
    found: list[dict[str, Any]] = json.loads(out)
    return found


def test_the_list_is_a_table_for_people(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = said(["list", url], capsys)
    assert (code, err) == (OK, "")
    for text in ("OrderPlaced", "order_id=1", "product_id=3", '{"customer":7}', "dead", "waiting", "in 1:56:", "[no]"):
        assert text in out, text
    assert all(one["id"] in out for one in listed(url, capsys))


def test_the_list_is_json_for_programs(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, third, fourth = listed(url, capsys)
    assert first["position"] < second["position"] < third["position"] < fourth["position"]
    assert (first["type"], first["key"], first["event"]) == (
        "OrderPlaced", ["order_id", 1], {"order_id": 1, "number": 1},
    )  # fmt: skip
    assert (first["state"], first["attempts"], first["is_claimed"]) == ("dead", 10, False)
    assert first["error"].startswith("Mails.on_order")
    assert (fourth["state"], fourth["key"], fourth["remaining"]) == ("waiting", {"customer": 7}, None)
    assert fourth["due_at"] > fourth["emitted_at"]


@pytest.mark.both_databases
def test_the_list_can_be_narrowed(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    everything = [one["id"] for one in listed(url, capsys)]
    assert [one["id"] for one in listed(url, capsys, "--dead")] == everything[:3]
    assert [one["id"] for one in listed(url, capsys, "--waiting")] == everything[3:]
    assert [one["id"] for one in listed(url, capsys, "--type", "ProductChanged")] == everything[2:3]
    code, out, _ = said(["list", url, "--limit", "2"], capsys)
    assert code == OK
    assert everything[0] in out
    assert everything[2] not in out
    after = out.split("--after ")[1].split()[0]
    assert [one["id"] for one in listed(url, capsys, "--after", after)] == everything[2:]
    assert said(["list", url, "--dead", "--type", "OrderShipped"], capsys)[1] == "no such events\n"
    assert said(["list", url, "--dead", "--waiting"], capsys)[0] == MISUSED


def test_an_empty_outbox_is_said_to_be_empty(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(["list", database_url], capsys) == (OK, "the outbox is empty\n", "")
    assert listed(database_url, capsys) == []


@pytest.mark.both_databases
def test_events_are_tried_again_by_their_ids(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, _, fourth = listed(url, capsys)
    assert said(["retry", url, first["id"], fourth["id"]], capsys) == (OK, "2 events will be tried again\n", "")
    first, second, _, fourth = listed(url, capsys)
    assert (first["state"], first["attempts"]) == ("waiting", 0)
    assert second["state"] == "dead"
    emitted, due = (datetime.fromisoformat(fourth[name]) for name in ("emitted_at", "due_at"))
    assert (due - emitted).total_seconds() < 1_000


def test_all_dead_letters_are_tried_again(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(["retry", url, "--all-dead", "--type", "ProductChanged"], capsys)[1] == "1 event will be tried again\n"
    assert said(["retry", url, "--all-dead"], capsys)[1] == "2 events will be tried again\n"
    assert listed(url, capsys, "--dead") == []


def test_an_event_is_discarded_by_its_id_without_asking(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    first, *others = listed(url, capsys)
    assert said(["discard", url, first["id"]], capsys) == (OK, "1 event discarded\n", "")
    assert listed(url, capsys) == others
    code, out, err = said(["discard", url, first["id"]], capsys)
    assert (code, out) == (MISUSED, "")
    assert "no event" in err


@pytest.mark.both_databases
def test_all_dead_letters_are_discarded_only_by_somebody_who_says_so_twice(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([False, True])

    def confirm(text: str, *, abort: bool) -> None:
        assert "all dead letters of ProductChanged" in text
        if not next(answers):
            raise typer.Abort

    monkeypatch.setattr(typer, "confirm", confirm)
    command = ["discard", url, "--all-dead", "--type", "ProductChanged"]
    assert said(command, capsys)[0] == FAILED
    assert len(listed(url, capsys)) == 4
    assert said(command, capsys)[:2] == (OK, "1 event discarded\n")
    assert said(["discard", url, "--all-dead", "--yes"], capsys)[:2] == (OK, "2 events discarded\n")
    assert [one["type"] for one in listed(url, capsys)] == ["OrderShipped"]


@pytest.mark.parametrize(
    "options", [[], ["an-id", "--all-dead"], ["an-id", "--type", "OrderPlaced"]], ids=["nothing", "both", "type of id"]
)
@pytest.mark.parametrize("command", ["retry", "discard"])
def test_what_is_meant_must_be_said(
    tmp_path: Path, command: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = said([command, f"sqlite:///{tmp_path}/x.db", *options], capsys)
    assert (code, out) == (MISUSED, "")
    assert err.startswith("error: ")


def test_it_works_by_the_name_of_an_app_and_without_a_terminal(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shop.db"
    asyncio.run(fill(url))
    (tmp_path / "outbox_app.py").write_text(
        f"from fusion_cluster import App, Database\napp = App('shop', database=Database({url!r}))\n"
    )

    def fusion_cluster(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "fusion_cluster.cli", "events", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "40"}
        return subprocess.run(
            command, cwd=tmp_path, env=environment, input="", capture_output=True, text=True, timeout=60, check=False
        )

    shown = fusion_cluster("list", "outbox_app:app", "--dead")
    assert (shown.returncode, shown.stderr) == (OK, "")
    assert shown.stdout.count("LookupError") == 3
    refused = fusion_cluster("discard", "outbox_app:app", "--all-dead")
    assert refused.returncode == FAILED
    assert "Traceback" not in refused.stderr
    assert fusion_cluster("discard", "outbox_app:app", "--all-dead", "--yes").stdout == "3 events discarded\n"


def test_a_database_that_is_away_is_told_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = said(["list", "postgresql://somebody@127.0.0.1:1/nothing"], capsys)
    assert (code, out) == (FAILED, "")
    assert "127.0.0.1" in err
