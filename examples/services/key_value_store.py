"""A key-value store: settings and visitors of a site, and a page that follows them.

The settings of a user are a value, as JSON; each visitor is a key that expires by itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec

from fusion_cluster import App, ComputeService, Database, compute_method
from fusion_cluster.host import Host
from fusion_cluster.services import KeyValueStore

VISIT_S = 1.0


class Settings(msgspec.Struct, frozen=True):
    theme: str = "light"


class Site(ComputeService):
    """Pages that are made of what is in the store."""

    store: KeyValueStore

    @compute_method
    async def settings(self, user: str) -> Settings:
        value = await self.store.get(f"settings/{user}")
        return Settings() if value is None else msgspec.json.decode(value, type=Settings)

    @compute_method
    async def page(self, user: str) -> str:
        settings = await self.settings(user)
        visitors = await self.store.list("visitors/", limit=10)
        names = ", ".join(key.removeprefix("visitors/") for key in visitors) or "nobody"
        return f"{settings.theme} page, {await self.store.count('visitors/')} here: {names}"


def make_app(url: str) -> App:
    """The app on the database of that URL."""
    return App("site", services=[KeyValueStore, Site], database=Database(url))


async def steps(host: Host) -> AsyncIterator[tuple[str, Callable[[], Awaitable[str]]]]:
    """What happens, one after the other, and what is asked then."""
    store, site = host.service(KeyValueStore), host.service(Site)

    async def page() -> str:
        return await site.page("ann")

    yield "Nothing is there yet.", page
    yield "Nothing has happened.", page
    await store.set("settings/ann", msgspec.json.encode(Settings("dark")))
    yield 'store.set("settings/ann", …)', page
    await store.set("settings/bob", msgspec.json.encode(Settings("pink")))
    yield "Bob's settings are no business of Ann's page.", page
    await store.set("visitors/cid", b"", VISIT_S)
    yield f'store.set("visitors/cid", b"", {VISIT_S})', page
    await store.set("visitors/cid", b"again", 3600)
    await store.set("visitors/dan", b"", VISIT_S)
    yield "Cid stays, Dan comes.", page
    await site.page("ann").when(lambda page: page.endswith("1 here: cid"))  # up to a second after his end
    yield "A moment later Dan has gone, by himself.", page
    await store.remove("visitors/cid")
    yield 'store.remove("visitors/cid")', page
