"""Sessions: who is signed in in which browser, and whose light is on.

A user is present for a second and a half here, so that one can see the light go out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import ClassVar

from fusion_cluster import App, ComputeService, Database, compute_method
from fusion_cluster.host import Host
from fusion_cluster.services import Sessions, new_session_id


class QuickSessions(Sessions):
    """Sessions that forget soon."""

    presence_timeout_s: ClassVar[float] = 1.5
    touch_interval_s: ClassVar[float] = 0.3


class Chat(ComputeService):
    """Pages of a chat."""

    sessions: QuickSessions

    @compute_method
    async def greeting(self, session_id: str) -> str:
        user = await self.sessions.user_of(session_id)
        return "Who are you?" if user is None else f"Hello {user}!"

    @compute_method
    async def lights(self, users: tuple[str, ...]) -> str:
        return " ".join([f"{user} {'●' if await self.sessions.is_present(user) else '○'}" for user in users])

    @compute_method
    async def page(self, session_id: str) -> str:
        greeting, lights = await self.greeting(session_id), await self.lights(("ann", "bob"))
        return f"{greeting} {lights}, {await self.sessions.present_count()} present"


def make_app(url: str) -> App:
    """The app on the database of that URL."""
    return App("chat", services=[QuickSessions, Chat], database=Database(url))


async def steps(host: Host) -> AsyncIterator[tuple[str, Callable[[], Awaitable[str]]]]:
    """What happens, one after the other, and what is asked then."""
    sessions, chat = host.service(QuickSessions), host.service(Chat)
    anns, phone, bobs = new_session_id(), new_session_id(), new_session_id()

    async def page() -> str:
        return await chat.page(anns)

    yield "Ann's browser opens the page.", page
    await sessions.sign_in(anns, "ann", {"device": "browser"})
    yield 'sessions.sign_in(anns, "ann")', page
    await sessions.sign_in(phone, "ann", {"device": "phone"})
    await sessions.sign_in(bobs, "bob")
    yield "Ann signs in on her phone, too, and Bob somewhere.", page
    while await sessions.present_count() > 1:  # in which ends show up to a second later
        await sessions.touch(anns)  # for each request; it writes now and then
        await asyncio.sleep(0.05)
    yield "Bob has not been heard of for a while, Ann has.", page
    await sessions.touch(bobs)
    yield "sessions.touch(bobs)", page
    await sessions.sign_out_everywhere("ann")
    yield 'sessions.sign_out_everywhere("ann")', page
