"""How the demo looks: what a snapshot becomes on a screen, in a line and in the end."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import date

import pytest
from rich.console import Console, RenderableType

from examples.flights.show.lines import line_of
from examples.flights.show.snapshot import OutsideRead, Snapshot, Traffic, example_command
from examples.flights.show.summary import Summary, summary_view
from examples.flights.show.view import busiest, screen, short
from examples.flights.truth.comparison import Comparison, Difference
from examples.flights.values import Departure, Totals
from fusion_shards.configuration import MemberStatus

DAY = date(2013, 7, 10)
TOTALS = Totals(331, 160, 112, 1, 3, 1_120, -50)
LINE = Departure(7, DAY, "B6623", "B6", "N706JB", "JFK", "LAX", "15:20", "17:30", 130, "departed")
SNAPSHOT = Snapshot(
    day=DAY,
    minute=15 * 60 + 30,
    address="127.0.0.1:50051",
    confirmed=923,
    total=1_887,
    retries=0,
    airport="JFK",
    board=(LINE,) * 40,
    network=TOTALS,
    by_origin={"EWR": TOTALS, "JFK": TOTALS, "LGA": Totals(flights=9)},
    by_carrier={code: Totals(flights=number) for number, code in enumerate(("AA", "B6", "DL", "EV", "UA", "US") * 2)},
    year=Totals(336_776, 328_158, 326_890, 1_175, 8_152),
    traffic=Traffic(335.0, 0.62, 16.5, 162.0, 73.0, 19.7, 746.0),
    members=(
        MemberStatus("shard", 0, epoch=1, pid=11, slots=8_192, nodes=3_113, hits=12_345_678, computations=123_456),
        MemberStatus("shard", 1),
        MemberStatus("gateway", 0, epoch=2, pid=13, nodes=197),
    ),
    carrier_names={"UA": "United Air Lines Inc."},
)
RIGHT = Summary(
    snapshot=replace(SNAPSHOT, confirmed=1_887),
    sql=TOTALS,
    comparison=Comparison(1_089, ()),
    misflown=0,
    outside=OutsideRead("fusion-cluster call Network.totals 2013-07-10", '{"flights":331}'),
    outside_is_right=True,
    took_s=20.0,
    reads=1_000,
    hits=650,
)


def rendered(renderable: RenderableType, *, height: int | None = None) -> list[str]:
    console = Console(file=io.StringIO(), width=100, height=height, force_terminal=True, color_system=None)
    console.print(renderable, height=height)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_screen_of_100_by_30_holds_everything() -> None:
    lines = rendered(screen(SNAPSHOT), height=30)
    assert len(lines) == 30
    assert all(len(line) == 100 for line in lines)
    text = "\n".join(lines)
    for wanted in (
        "Wednesday 10 July 2013",
        "15:30 in New York",
        "923 of 1,887 commands",
        "departures JFK",
        "departed +2:10 h",
        "160/331",
        "7 min",
        "UA United",
        "335/s, 62% hits",
        "16.5 ms, p99 162.0",
        "73/s, 19.7 ms",
        "746/s",
        "gateway 127.0.0.1:50051",
        example_command(SNAPSHOT),
        "336,776 flights: 328,158 departed, 326,890 arrived, 8,152 cancelled",
    ):
        assert wanted in text, wanted


def test_a_shard_that_is_down_is_shown_as_down() -> None:
    (line,) = [line for line in rendered(screen(SNAPSHOT), height=30) if "shard 1" in line]
    assert "down" in line


def test_retries_are_told() -> None:
    assert "3 tried again" in "\n".join(rendered(screen(replace(SNAPSHOT, retries=3)), height=30))
    assert "3 tried again" in line_of(replace(SNAPSHOT, retries=3))


def test_what_another_process_read_is_shown() -> None:
    outside = OutsideRead("fusion-cluster call", '{"flights":1004}')
    assert '{"flights":1004}' in "\n".join(rendered(screen(replace(SNAPSHOT, outside=outside)), height=30))


def test_a_screen_before_anything_is_known_is_a_screen() -> None:
    assert len(rendered(screen(Snapshot(DAY, 0, "", 0, 0, 0, "JFK")), height=30)) == 30


def test_a_line_says_the_same_without_a_terminal() -> None:
    line = line_of(SNAPSHOT)
    assert "\n" not in line
    for wanted in ("15:30", "923/1,887", "departed 160", "EWR 7 min", "LGA -", "62% hits", "1 shards"):
        assert wanted in line, wanted


def test_the_example_command_reads_the_board_in_sight() -> None:
    command = "fusion-cluster call Airports.departures_at JFK 2013-07-10 15 --address 127.0.0.1:50051"
    assert example_command(SNAPSHOT) == command


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0"), (99_999, "99,999"), (123_456, "123k"), (9_999_999, "9,999k"), (12_345_678, "12M")]
)
def test_counts_stay_short(count: int, text: str) -> None:
    assert short(count) == text


def test_the_busiest_carriers_come_first() -> None:
    totals = {"A": Totals(flights=1), "C": Totals(flights=5), "B": Totals(flights=5)}
    assert [code for code, _ in busiest(totals, 2)] == ["B", "C"]


def test_a_summary_is_right_when_all_figures_are() -> None:
    assert RIGHT.is_right
    text = "\n".join(rendered(summary_view(RIGHT)))
    assert "1,089 boards and totals compared with SQL: no differ" in text
    assert "all figures are right" in text
    assert "94 commands/s over 20.0 s" in text


@pytest.mark.parametrize(
    "wrong",
    [
        replace(RIGHT, comparison=Comparison(9, (Difference("carrier UA", Totals(), TOTALS),))),
        replace(RIGHT, misflown=2),
        replace(RIGHT, outside_is_right=False),
        replace(RIGHT, snapshot=SNAPSHOT),
    ],
)
def test_one_wrong_figure_makes_the_summary_wrong(wrong: Summary) -> None:
    assert not wrong.is_right
    text = "\n".join(rendered(summary_view(wrong)))
    assert "NOT RIGHT" in text
    if wrong.comparison.differences:
        assert "carrier UA: cached Totals(" in text
