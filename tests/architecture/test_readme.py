"""The Python of the README runs as it stands: its blocks are files, named by their first line."""

from __future__ import annotations

import asyncio
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusion_cluster import App
from fusion_cluster.testing import LocalCluster
from fusion_router.gateway import GatewayEntrance
from fusion_router.member import Member
from tests.architecture.sources import ROOT

BLOCK = re.compile(r"^```python\n# (\w+\.py)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SERVED_AT = "localhost:50051"
TIMEOUT_S = 60


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files of the README."""
    blocks = BLOCK.findall((ROOT / "README.md").read_text())
    for name, code in blocks:
        (tmp_path / name).write_text(code)
    assert [name for name, _ in blocks] == ["shop.py", "try_it.py", "outside.py"]
    return tmp_path


@pytest.fixture
def shop(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    """The app of the README, with its database in `folder`."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    app = importlib.import_module("shop").app
    assert isinstance(app, App)
    yield app
    del sys.modules["shop"]


async def run(folder: Path, name: str) -> None:
    """Run one of the files; what it asserts holds, and it warns of nothing."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", name), cwd=folder, stdout=-1, stderr=asyncio.subprocess.STDOUT
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode == 0, output.decode()
    assert not output.decode()


async def test_the_shop_runs_in_one_process(folder: Path) -> None:
    await run(folder, "try_it.py")


async def test_the_shop_is_called_from_outside(folder: Path, shop: App) -> None:
    await run(folder, "try_it.py")  # tables, a product and a cart
    async with LocalCluster(shop, shards=2) as cluster:
        host = cluster.new_host("gateway-0")
        entrance = GatewayEntrance(host, address="127.0.0.1:0")
        async with Member(host, entrances=[entrance], grace_s=0.5) as member:
            outside = folder / "outside.py"
            assert SERVED_AT in outside.read_text()
            outside.write_text(outside.read_text().replace(SERVED_AT, member.address))
            await run(folder, "outside.py")


def test_every_python_block_of_the_readme_is_run() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(re.findall(r"^```python", text, re.MULTILINE)) == len(BLOCK.findall(text))
