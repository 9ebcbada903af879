"""The stories of the built-in services, told as they are told to people."""

from __future__ import annotations

import io
import itertools
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from examples.services.stories import STORIES, Look, tell

ROOT = Path(__file__).parents[2]


@pytest.fixture
def told() -> Console:
    return Console(file=io.StringIO(), width=140)


async def look_at(name: str, folder: Path, console: Console) -> list[Look]:
    looks = await tell(name, f"sqlite:///{folder}/story.db", console)
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert all(happened in shown and seen in shown for happened, seen, _ in looks)
    return looks


async def test_the_page_follows_the_key_value_store(tmp_path: Path, told: Console) -> None:
    looks = await look_at("key-value-store", tmp_path, told)
    assert [seen for _, seen, _ in looks] == [
        "light page, 0 here: nobody",
        "light page, 0 here: nobody",
        "dark page, 0 here: nobody",
        "dark page, 0 here: nobody",
        "dark page, 1 here: cid",
        "dark page, 2 here: cid, dan",
        "dark page, 1 here: cid",
        "dark page, 0 here: nobody",
    ]
    costs = [computed for _, _, computed in looks]
    # At first all: page, settings, value, list, count, the folder of both and its renewals.
    assert costs[:5] == [7, 0, 3, 0, 4]


async def test_the_words_and_the_steps_follow_the_clock(tmp_path: Path, told: Console) -> None:
    looks = await look_at("clock", tmp_path, told)
    assert [seen for _, seen, _ in looks[:3]] == [
        "Your parcel came just now.",
        "Your parcel came just now.",
        "Your parcel came a minute ago.",
    ]
    assert [computed for _, _, computed in looks] == [2, 0, 2, 2, 2, 2]
    steps = [int(seen.split()[0]) for _, seen, _ in looks[3:]]
    assert all((later - earlier) % 120 in (1, 2, 3) for earlier, later in itertools.pairwise(steps))


async def test_the_lights_follow_the_sessions(tmp_path: Path, told: Console) -> None:
    looks = await look_at("sessions", tmp_path, told)
    assert [seen for _, seen, _ in looks] == [
        "Who are you? ann ○ bob ○, 0 present",
        "Hello ann! ann ● bob ○, 1 present",
        "Hello ann! ann ● bob ●, 2 present",
        "Hello ann! ann ● bob ○, 1 present",
        "Hello ann! ann ● bob ●, 2 present",
        "Who are you? ann ○ bob ●, 1 present",
    ]


def test_the_command_tells_them_and_knows_no_others() -> None:
    command = [sys.executable, "-W", "error", "-m", "examples.services"]
    run = subprocess.run([*command, "clock"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert "Your parcel came a minute ago." in run.stdout
    run = subprocess.run([*command, "poem"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 2
    assert all(name in run.stderr for name in STORIES)
