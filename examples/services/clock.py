"""A clock: a line that says how long ago something was, computed again when the words change and not before.

Here a parcel came 59.5 seconds ago, so the words change soon; and a wall clock that steps every half second.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta

from fusion_cluster import App, ComputeService, compute_method
from fusion_cluster.host import Host
from fusion_cluster.services import Clock

STEP_S = 0.5


class Hall(ComputeService):
    """What hangs in the hall."""

    clock: Clock

    @compute_method
    async def parcel(self, came_at: datetime) -> str:
        return f"Your parcel came {await self.clock.moments_ago(came_at)}."

    @compute_method
    async def half_seconds(self) -> int:
        """How many half seconds of this minute are over."""
        now = await self.clock.now(STEP_S)
        return int((now.second + now.microsecond / 1e6) / STEP_S)


def make_app(_url: str) -> App:
    """The app; a clock needs no database."""
    return App("hall", services=[Clock, Hall])


async def steps(host: Host) -> AsyncIterator[tuple[str, Callable[[], Awaitable[str]]]]:
    """What happens, one after the other, and what is asked then."""
    hall = host.service(Hall)
    came_at = datetime.now(UTC) - timedelta(seconds=59.5)

    async def parcel() -> str:
        return await hall.parcel(came_at)

    async def half_seconds() -> str:
        return f"{await hall.half_seconds()} half seconds of this minute are over"

    yield "A parcel has come.", parcel
    yield "Nobody asks the clock as long as the words are right.", parcel
    await hall.parcel(came_at).when_invalidated()
    yield "Half a second later they are not.", parcel
    yield f"clock.now({STEP_S})", half_seconds
    for _ in range(2):
        await hall.half_seconds().when_invalidated()
        yield "The next step begins.", half_seconds
