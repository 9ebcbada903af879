"""A process that delivers events and stops at a place: python -m tests.unit.events.delivering_process URL PLACE.

Says "ready" when it delivers, and the place with the number of the event when it has come there, where it stays for
ever: "before" the handler's commit, "committed" right after it, "handled" when the handler has returned and nothing is
written of that. With the place "nowhere" it delivers all it can, and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from fusion_cluster import Database
from fusion_cluster.database.event_claims import EventClaims
from tests.unit.events.orders import Event, Ledger, orders_host, quick

CLAIM_S = 1.0


async def stay(place: str, number: object) -> None:
    print(place, number, flush=True)
    await asyncio.Event().wait()


async def deliver(url: str, place: str) -> None:
    async def before(event: Event) -> None:
        await stay("before", event.number)

    async def after(event: Event) -> None:
        await stay("committed", event.number)

    async def handled(claims: EventClaims, event: Any, *, wants_next: bool) -> None:
        await stay("handled", event.payload[-1])

    if place == "handled":
        EventClaims.succeeded = handled  # type: ignore[assignment, method-assign]
    async with orders_host(Database(url), quick(claim_s=CLAIM_S, poll_period_s=0.05, max_attempts=10)) as host:
        ledger = host.service(Ledger)
        ledger.before = before if place == "before" else None
        ledger.after = after if place == "committed" else None
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(deliver(sys.argv[1], sys.argv[2]))
