"""Serves the shelf in a process of its own: prints the gateway's address, and ends with its standard input."""

from __future__ import annotations

import asyncio
import sys

from tests.apps.shelf import app, fresh_stock
from tests.clients import fronted


async def main() -> None:
    fresh_stock()
    async with fronted(app) as front:
        print(front.address, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
