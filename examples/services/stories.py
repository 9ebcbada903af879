"""The stories, and how they are told: what is said, and after each step what a reader sees and what that has cost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from types import ModuleType

from rich.console import Console
from rich.table import Table

from examples.services import clock, key_value_store, sessions
from fusion_cluster import App
from fusion_cluster.host import LocalHost

Look = tuple[str, str, int]
"""What has happened, what a reader sees then, and how many computations that took."""

Step = tuple[str, Callable[[], Awaitable[str]]]
"""What has happened, and what a reader asks then."""

STORIES: dict[str, ModuleType] = {"key-value-store": key_value_store, "clock": clock, "sessions": sessions}


async def tell(name: str, url: str, console: Console) -> list[Look]:
    """Tell one story on the empty database of that URL.

    Returns:
        A look for each of its steps.
    """
    story = STORIES[name]
    app: App = story.make_app(url)
    table = Table("what happens", "what a reader sees", "computed", title=str(story.__doc__).partition("\n")[0])
    looks: list[Look] = []
    async with app.local() as host:
        async for look in _looks(story.steps(host), host):
            looks.append(look)
            table.add_row(look[0], look[1], str(look[2] or "-"))
    console.print(table)
    console.print()
    return looks


async def _looks(steps: AsyncIterator[Step], host: LocalHost) -> AsyncIterator[Look]:
    async for happened, ask in steps:
        before = host.graph.stats.computations
        seen = await ask()
        yield happened, seen, host.graph.stats.computations - before
