"""A fork while clients and hosts are open: the child's copies refuse at once, and the parent goes on."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from typing import Any

import pytest

from tests.apps.shelf import app, fresh_stock
from tests.clients import fronted
from tests.processes.started import running

COPIES = "was opened before this process was forked: fork first, then open one in each process"


@pytest.mark.parametrize("way", ["blocking", "async"])
async def test_copies_in_a_child_refuse_at_once_and_the_parent_goes_on(way: str) -> None:
    fresh_stock()
    async with fronted(app) as front:
        command = [sys.executable, "-m", "tests.processes.forking_process", way, front.address]
        async with running(*command, stdout=PIPE, stderr=PIPE) as process:
            out, err = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, err.decode()
        said: dict[str, Any] = {}
        for line in out.decode().splitlines():
            said |= json.loads(line)
        assert said["before"] == [0] * len(said["before"])
        closing = {name: what for name, what in said["child"].items() if name.startswith("close")}
        assert set(closing.values()) <= {"gave None", "gave False"}
        another = said["child"].pop("another", "UsageError: gRPC does not work in a process that was forked")
        assert another.startswith("UsageError: gRPC does not work in a process that was forked")
        for name, what in said["child"].items():
            if name not in closing:
                whose = "app 'shelf'" if name.startswith(("host", "cluster")) or "local" in what else front.address
                assert what.startswith("UsageError: the "), name
                assert what.endswith(COPIES), name
                assert whose in what or "blocking host" in what, name
        assert said["ending"] == "exit code 3"
        assert said["after"][:2] == [2, 2]
        if way == "async":
            assert said["new"] == 0
            assert said["after"][2:] == [0, 0]
