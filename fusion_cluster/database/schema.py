"""The library's own tables, beside those of the app: `fusion_…`.

They are made and upgraded by `fusion_cluster.database.migrations`; a change of a table here needs a revision there.
Times are seconds since the epoch, by the clock of the process that wrote them.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Float, Index, Integer, LargeBinary, MetaData, String, Table, text

METADATA: Final = MetaData()

_Position: Final = BigInteger().with_variant(Integer, "sqlite")
"""Rises with each row and is never given twice; on SQLite only an INTEGER key can do that."""

VERSION_TABLE: Final = "fusion_schema_version"
"""Has one row: the revision of the library's tables. Alembic's `alembic_version` is left to the app."""

MAX_ID_CHARACTERS: Final = 300
"""The longest id of a command, an operation or an event."""

_ByteOrdered: Final = String(MAX_ID_CHARACTERS).with_variant(String(MAX_ID_CHARACTERS, collation="C"), "postgresql")
"""Compared byte by byte, whatever the collation of the database, as SQLite always does. So a range of values holds what
it should, upper and lower case differ, and the index can be used."""

OPERATIONS: Final = Table(
    "fusion_operations",
    METADATA,
    Column("position", _Position, primary_key=True, autoincrement=True),
    # For a command, its id; an id is never logged twice.
    Column("operation_id", String(MAX_ID_CHARACTERS), nullable=False, unique=True),
    # For a command: its full name, a digest of name and arguments, and its outcome (NULL: not recorded).
    Column("command", String, nullable=True),
    Column("fingerprint", LargeBinary, nullable=True),
    Column("outcome", LargeBinary, nullable=True),
    # The host that wrote it.
    Column("host", String, nullable=False),
    Column("committed_at", Float, nullable=False, index=True),
    # The keys to invalidate: a msgpack array of [method, arguments, origin].
    Column("keys", LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)
"""The operation log: a row for each committed operation. On PostgreSQL it has one more column, `transaction_id xid8`:
the transaction that wrote the row. It has an index; readers use it to know what they have seen (see `log_readers`)."""

COMMANDS: Final = Table(
    "fusion_commands",
    METADATA,
    Column("command_id", String(MAX_ID_CHARACTERS), primary_key=True),
    Column("command", String, nullable=False),
    Column("fingerprint", LargeBinary, nullable=True),
    Column("outcome", LargeBinary, nullable=True),
    Column("committed_at", Float, nullable=False, index=True),
)
"""Commands whose entries have been trimmed from the operation log: their ids are still refused, their results given."""

TRIMMED: Final = Table(
    "fusion_trimmed",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("position", BigInteger, nullable=False),
    # PostgreSQL: the highest transaction of which an entry was trimmed, as a number.
    Column("transaction_id", BigInteger, nullable=False),
)
"""One row (id 1): up to where the operation log is trimmed. A reader that has not read up to there has missed
entries."""

EVENTS: Final = Table(
    "fusion_events",
    METADATA,
    Column("position", _Position, primary_key=True, autoincrement=True),
    Column("event_id", String(MAX_ID_CHARACTERS), nullable=False, unique=True),
    Column("type", String, nullable=False),
    # Events of one key are delivered in order, by the shard that owns the key's slot.
    Column("key", LargeBinary, nullable=False),
    Column("slot", Integer, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("emitted_at", Float, nullable=False),
    # When its next attempt is due, at the earliest. For a delayed event the first one is later than emitted_at.
    Column("first_due_at", Float, nullable=False),
    Column("due_at", Float, nullable=False),
    Column("attempts", Integer, nullable=False),
    # "waiting" or "dead".
    Column("state", String(16), nullable=False),
    # JSON array of the handlers that have still to succeed; NULL: all of them.
    Column("remaining", String, nullable=True),
    Column("error", String, nullable=True),
    Column("claimed_by", String, nullable=True),
    Column("claimed_until", Float, nullable=True),
    # JSON object of texts: the trace and the principal of its emitter, and what users add; NULL: none.
    Column("baggage", String, nullable=True),
    Index("ix_fusion_events_state_due_at", "state", "due_at"),
    Index("ix_fusion_events_key_position", "key", "position"),
    Index(
        *("ix_fusion_events_claimed_until", "claimed_until"),
        sqlite_where=text("claimed_until IS NOT NULL"),
        postgresql_where=text("claimed_until IS NOT NULL"),
    ),
    sqlite_autoincrement=True,
)
"""The outbox: events that wait for delivery, and dead letters. An event that is delivered is deleted."""

KEY_VALUES: Final = Table(
    "fusion_key_values",
    METADATA,
    Column("key", _ByteOrdered, primary_key=True),
    Column("value", LargeBinary, nullable=False),
    Column("expires_at", Float, nullable=True, index=True),
)
"""The table of the service `KeyValueStore`."""

SESSIONS: Final = Table(
    "fusion_sessions",
    METADATA,
    Column("session_id", _ByteOrdered, primary_key=True),
    Column("user_id", _ByteOrdered, nullable=False, index=True),
    # A JSON object of texts.
    Column("details", LargeBinary, nullable=False),
    Column("signed_in_at", Float, nullable=False),
    Column("seen_at", Float, nullable=False, index=True),
)
"""The table of the service `Sessions`: the client sessions in which a user is signed in."""
