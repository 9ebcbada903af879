"""`fusion-cluster serve`: what is wrong is said at once, and Ctrl-C is heeded at any time."""

from __future__ import annotations

import asyncio
import importlib.util

import pytest

from fusion_cluster.app_import import import_app
from fusion_cluster.cli.main import MISUSED, run
from fusion_cluster.cli.serve import unless
from fusion_cluster.errors import UsageError


@pytest.mark.parametrize("path", ["", ":app", ".ledger:app", "tests.nowhere:app", "tests.apps.sheet:nothing"])
def test_a_wrong_path_of_an_app_is_a_usage_error(path: str) -> None:
    with pytest.raises(UsageError) as raised:
        import_app(path)
    assert raised.value.field == "app"


def test_a_wrong_path_is_told_before_anything_is_started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fusion_shards.joining.start_ray", lambda **_: pytest.fail("Ray was started"))
    assert run(["serve", "tests.nowhere:app"]) == MISUSED
    assert "tests.nowhere" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["serve", "tests.apps.sheet:app"], ["status"]])
def test_without_ray_it_says_what_to_install(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert run(command) == MISUSED
    assert "fusion-cluster[cluster]" in capsys.readouterr().err


async def test_what_is_told_to_stop_while_it_starts_has_ended_when_that_is_known() -> None:
    told_to_stop = asyncio.Event()
    begun = asyncio.Event()
    steps: list[str] = []

    async def launch() -> str:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            steps.append("cleaned up")
        return "launched"

    starting = asyncio.create_task(unless(told_to_stop, launch()))
    await begun.wait()
    told_to_stop.set()
    assert await starting is None
    assert steps == ["cleaned up"]


async def test_what_starts_in_time_is_given_back() -> None:
    async def launch() -> str:
        return "launched"

    assert await unless(asyncio.Event(), launch()) == "launched"
