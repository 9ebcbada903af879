"""An app whose bodies end what is around them, as Ray's actors import it."""

from __future__ import annotations

import asyncio
import os
import sys

from fusion_cluster import App, ComputeService, command, compute_method


class Exits(ComputeService):
    @compute_method
    async def pid(self, key: str) -> int:
        return os.getpid()

    @compute_method
    async def exits(self, key: str) -> int:
        sys.exit(3)

    @command
    async def stop_loop(self, key: str) -> None:
        asyncio.get_running_loop().stop()

    @command
    async def exit_in_a_task(self, key: str) -> None:
        async def leave() -> None:
            sys.exit(3)

        await asyncio.create_task(leave())

    @command
    async def exit_in_a_callback(self, key: str) -> None:
        asyncio.get_running_loop().call_soon(sys.exit, 3)


app = App("exits", [Exits])
