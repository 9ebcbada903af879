from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from fusion_cluster.database import Database
from tests.apps.shelves import ShelfRow

ROOT = Path(__file__).parents[3]


async def test_processes_that_count_up_one_row_lose_no_count_and_fail_on_no_lock(tmp_path: Path) -> None:
    path, processes, times = tmp_path / "shelves.db", 4, 25
    running = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-m", "tests.unit.database.writing_process", str(path), "1", str(times)),
            cwd=ROOT,
            stderr=asyncio.subprocess.PIPE,
        )
        for _ in range(processes)
    ]
    for process in running:
        _, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
    database = Database(f"sqlite:///{path}")
    async with database.session() as session:
        assert (await session.get_one(ShelfRow, 1)).amount == processes * times
    await database.dispose()
