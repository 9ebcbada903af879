"""`fusion-cluster events`: lists, retries and discards the events in the outbox of a database."""

from __future__ import annotations

import datetime
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from fusion_cluster.cli.databases import DatabaseName, named_database, run_with
from fusion_cluster.cli.options import Json
from fusion_cluster.cli.output import console, say
from fusion_cluster.database.event_store import EventState, EventStore, StoredEvent
from fusion_cluster.errors import UsageError
from fusion_cluster.quantities import MOST
from fusion_cluster.runtime import SYSTEM
from fusion_cluster.wire.codec import encode_json

Ids = Annotated[list[str] | None, typer.Argument(help="Ids of events.", metavar="ID", show_default=False)]
Type = Annotated[str | None, typer.Option("--type", help="Only events of the class of this name.")]
AllDead = Annotated[bool, typer.Option("--all-dead", help="All dead letters instead of those named.")]

events = typer.Typer(
    help="List, retry and discard the events in the outbox of an app's database.", no_args_is_help=True
)


@events.command("list")
def list_events(
    database: DatabaseName,
    dead: Annotated[bool, typer.Option("--dead", help="Only dead letters.")] = False,
    waiting: Annotated[bool, typer.Option("--waiting", help="Only events that wait for delivery.")] = False,
    type: Type = None,
    limit: Annotated[int, typer.Option(help="How many at most.", min=1, max=MOST)] = 100,
    after: Annotated[
        int, typer.Option(help="Only those at higher positions, to see the next ones.", min=0, max=MOST)
    ] = 0,
    as_json: Json = False,
) -> None:
    """Show the events that wait for delivery, and dead letters, oldest first: fusion-cluster events list shop:app."""
    if dead and waiting:
        raise UsageError("give either --dead or --waiting, not both")
    state = EventState.DEAD if dead else EventState.WAITING if waiting else None
    found = run_with(
        named_database(database),
        lambda meant: meant.events.list(state=state, type=type, limit=limit, after=after),
    )
    if as_json:
        say(json.dumps([_plain(one) for one in found]))
        return
    out = console()
    if not found:
        out.print("no such events" if state or type or after else "the outbox is empty", style="dim")
        return
    out.print(_table(found))
    if len(found) == limit:
        out.print(f"there may be more: --after {found[-1].position}", style="dim")


@events.command("retry")
def retry_events(database: DatabaseName, ids: Ids = None, all_dead: AllDead = False, type: Type = None) -> None:
    """Have events delivered as soon as possible; dead letters, with all attempts before them again."""
    _require_choice(ids, all_dead, type)
    count = _do(database, ids, EventStore.retry, lambda store: store.retry_dead(type=type))
    say(f"{_counted(count)} will be tried again")


@events.command("discard")
def discard_events(
    database: DatabaseName,
    ids: Ids = None,
    all_dead: AllDead = False,
    type: Type = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete events for good: their handlers are not called with them any more."""
    _require_choice(ids, all_dead, type)
    if all_dead and not yes:
        which = f"all dead letters of {type}" if type else "all dead letters"
        typer.confirm(f"Delete {which} in {named_database(database).url} for good?", abort=True)
    count = _do(database, ids, EventStore.discard, lambda store: store.discard_dead(type=type))
    say(f"{_counted(count)} discarded")


def _require_choice(ids: Sequence[str] | None, all_dead: bool, type: str | None) -> None:
    if bool(ids) == all_dead:
        raise UsageError("give either the ids of events, or --all-dead")
    if type and not all_dead:
        raise UsageError("give --type only together with --all-dead")


def _do(
    name: str,
    ids: Sequence[str] | None,
    one: Callable[[EventStore, str], Awaitable[bool]],
    all_of_them: Callable[[EventStore], Awaitable[int]],
) -> int:
    """Apply a change to the events named, or to all dead letters; return how many there were.

    Raises:
        UsageError: no event has one of the ids; the events before it are changed.
    """
    database = named_database(name)

    async def each(store: EventStore) -> int:
        for event_id in ids or ():
            if not await one(store, event_id):
                raise UsageError(f"there is no event {event_id!r} in the outbox of {database.url}", field="id")
        return len(ids or ())

    return run_with(database, lambda meant: each(meant.events) if ids else all_of_them(meant.events))


def _counted(count: int) -> str:
    return f"{count:,} event{'' if count == 1 else 's'}"


def _table(found: Sequence[StoredEvent]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for column in ("id", "type", "key", "state", "attempts", "due", "error"):
        is_wide = column in ("type", "key", "error")
        table.add_column(
            column, justify="right" if column == "attempts" else "left", overflow="fold", no_wrap=not is_wide
        )
    now = datetime.datetime.fromtimestamp(SYSTEM.clock.wall(), datetime.UTC)
    for one in found:
        is_dead = one.state is EventState.DEAD
        state = "dead" if is_dead else "under way" if one.is_claimed else "waiting"
        table.add_row(
            *(one.event_id, one.type, Text(_key(one.key)), state, str(one.attempts)),
            *("" if is_dead else _due(one.due_at, now), Text(one.error or "")),
            style="red" if is_dead else None,
        )
    return table


def _key(key: Any) -> str:
    """Return a key as text: the event's first field and its value, or the key that was given for it."""
    match key:
        case [str(name), value]:
            return f"{name}={encode_json(value)}"
    return encode_json(key)


def _due(due_at: datetime.datetime, now: datetime.datetime) -> str:
    if due_at <= now:
        return "now"
    left = datetime.timedelta(seconds=round((due_at - now).total_seconds()))
    return f"in {left}"


def _plain(one: StoredEvent) -> dict[str, Any]:
    return {
        "id": one.event_id,
        "position": one.position,
        "type": one.type,
        "key": json.loads(encode_json(one.key)),
        "event": json.loads(encode_json(one.event)),
        "state": one.state.value,
        "attempts": one.attempts,
        "emitted_at": one.emitted_at.isoformat(),
        "due_at": one.due_at.isoformat(),
        "remaining": one.remaining,
        "error": one.error,
        "is_claimed": one.is_claimed,
    }
