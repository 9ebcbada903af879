"""The built-in services as an app, and a service that reads them as services of users do."""

from __future__ import annotations

from fusion_cluster import App, ComputeService, Database, compute_method
from fusion_cluster.database import LogOptions
from fusion_cluster.services import Clock, KeyValueStore, Sessions


class Panel(ComputeService):
    """Reads the built-in services, as services of users do."""

    store: KeyValueStore
    sessions: Sessions
    clock: Clock

    @compute_method
    async def title(self, key: str) -> str:
        return f"{key}: {await self.store.get(key)!r}"

    @compute_method
    async def summary(self, prefix: str) -> str:
        return f"{await self.store.count(prefix)} of {prefix}"

    @compute_method
    async def greeting(self, session_id: str) -> str:
        user = await self.sessions.user_of(session_id)
        return "who are you?" if user is None else f"hello {user}"

    @compute_method
    async def light(self, user_id: str) -> str:
        return "on" if await self.sessions.is_present(user_id) else "off"


def new_app(url: str) -> App:
    """An app on a database, which it looks at more often than others do."""
    database = Database(url, log=LogOptions(period_s=0.05))
    return App("services", services=[KeyValueStore, Clock, Sessions, Panel], database=database)
