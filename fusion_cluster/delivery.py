"""Delivery of events in a host: a dispatcher, the outbox that it reads, the pipeline that runs its handlers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fusion_cluster.commands import run_command
from fusion_cluster.commands.pipeline import CommandHost
from fusion_cluster.database.event_claims import EventClaims
from fusion_cluster.events import BoundEventHandler
from fusion_cluster.events.dispatcher import Dispatcher
from fusion_cluster.events.options import EventOptions
from fusion_cluster.events.subscriptions import subscriptions_of
from fusion_cluster.runtime import Runtime

if TYPE_CHECKING:
    from fusion_cluster.database import Database


def new_dispatcher(
    host: CommandHost,
    database: Database,
    handlers: Sequence[BoundEventHandler],
    *,
    options: EventOptions,
    owned: Callable[[], bytes | None],
    runtime: Runtime,
) -> Dispatcher:
    """Return a dispatcher of a database's events to event handlers, for the slots that a host owns.

    Args:
        host: where the handlers run.
        database: the database that holds the outbox.
        handlers: all event handlers of the host.
        options: how often to look, how long to claim, how many at a time.
        owned: gives a byte for each slot, 1 where the host owns it now; None if it owns all slots.
        runtime: the clock of the claims, and the random part of the claimant's name.
    """
    subscriptions = subscriptions_of(handlers)
    me = f"{host.peer_id}/{runtime.entropy.token_hex(4)}"
    return Dispatcher(
        EventClaims(database, me=me, types=subscriptions, clock=runtime.clock.wall, claim_s=options.claim_s),
        subscriptions,
        deliver=lambda handler, event, command_id: run_command(
            handler, handler.invocation((event,), command_id), host=host
        ),
        owned=owned,
        options=options,
        runtime=runtime,
    )
