"""What delivers events in a host: a dispatcher, the outbox that it reads, the pipeline that its handlers go through."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

from fusion_cluster.commands import run_command
from fusion_cluster.commands.events.dispatcher import Dispatcher
from fusion_cluster.commands.events.subscriptions import subscriptions_of
from fusion_cluster.database.event_claims import EventClaims

if TYPE_CHECKING:
    from fusion_cluster.database import Database
    from fusion_cluster.host import Host


def new_dispatcher(host: Host, database: Database) -> Dispatcher:
    """A dispatcher of a database's events to the event handlers of a host, for the slots that it owns."""
    options, subscriptions = host.app.event_options, subscriptions_of(host.event_handlers)
    me = f"{host.peer_id}/{secrets.token_hex(4)}"
    return Dispatcher(
        EventClaims(database, me=me, types=subscriptions, clock=time.time, claim_s=options.claim_s),
        subscriptions,
        deliver=lambda handler, event, command_id: run_command(
            handler, handler.invocation((event,), command_id), host=host
        ),
        owned=host.owned_slots,
        options=options,
    )
