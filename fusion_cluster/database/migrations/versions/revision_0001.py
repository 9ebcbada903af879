"""The first tables: operation log, outbox, key-value store, sessions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0001"
down_revision = None

_ID = sa.String(300)
_BYTE_ORDERED_ID = sa.String(300).with_variant(sa.String(300, collation="C"), "postgresql")
_POSITION = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade(op: Operations) -> None:
    """Make the tables."""
    _make_operation_log(op)
    _make_outbox(op)
    op.create_table(
        "fusion_key_values",
        sa.Column("key", _BYTE_ORDERED_ID, nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sa.Column("expires_at", sa.Float, nullable=True),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index("ix_fusion_key_values_expires_at", "fusion_key_values", ["expires_at"])
    op.create_table(
        "fusion_sessions",
        sa.Column("session_id", _BYTE_ORDERED_ID, nullable=False),
        sa.Column("user_id", _BYTE_ORDERED_ID, nullable=False),
        sa.Column("details", sa.LargeBinary, nullable=False),
        sa.Column("signed_in_at", sa.Float, nullable=False),
        sa.Column("seen_at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("session_id"),
    )
    op.create_index("ix_fusion_sessions_user_id", "fusion_sessions", ["user_id"])
    op.create_index("ix_fusion_sessions_seen_at", "fusion_sessions", ["seen_at"])


def _make_operation_log(op: Operations) -> None:
    op.create_table(
        "fusion_operations",
        sa.Column("position", _POSITION, autoincrement=True, nullable=False),
        sa.Column("operation_id", _ID, nullable=False),
        sa.Column("command", sa.String, nullable=True),
        sa.Column("fingerprint", sa.LargeBinary, nullable=True),
        sa.Column("outcome", sa.LargeBinary, nullable=True),
        sa.Column("host", sa.String, nullable=False),
        sa.Column("committed_at", sa.Float, nullable=False),
        sa.Column("keys", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("position"),
        sa.UniqueConstraint("operation_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_fusion_operations_committed_at", "fusion_operations", ["committed_at"])
    if op.get_context().dialect.name == "postgresql":
        # The transaction that wrote a row: positions are given before the commit, so they are not the order of commits.
        op.execute("ALTER TABLE fusion_operations ADD COLUMN transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id()")
        op.create_index("ix_fusion_operations_transaction_id", "fusion_operations", ["transaction_id"])
    op.create_table(
        "fusion_commands",
        sa.Column("command_id", _ID, nullable=False),
        sa.Column("command", sa.String, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary, nullable=True),
        sa.Column("outcome", sa.LargeBinary, nullable=True),
        sa.Column("committed_at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("command_id"),
    )
    op.create_index("ix_fusion_commands_committed_at", "fusion_commands", ["committed_at"])
    trimmed = op.create_table(
        "fusion_trimmed",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("transaction_id", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.bulk_insert(trimmed, [{"id": 1, "position": 0, "transaction_id": 0}])


def _make_outbox(op: Operations) -> None:
    op.create_table(
        "fusion_events",
        sa.Column("position", _POSITION, autoincrement=True, nullable=False),
        sa.Column("event_id", _ID, nullable=False),
        sa.Column("type", sa.String, nullable=False),
        sa.Column("key", sa.LargeBinary, nullable=False),
        sa.Column("slot", sa.Integer, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("emitted_at", sa.Float, nullable=False),
        sa.Column("first_due_at", sa.Float, nullable=False),
        sa.Column("due_at", sa.Float, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("remaining", sa.String, nullable=True),
        sa.Column("error", sa.String, nullable=True),
        sa.Column("claimed_by", sa.String, nullable=True),
        sa.Column("claimed_until", sa.Float, nullable=True),
        sa.PrimaryKeyConstraint("position"),
        sa.UniqueConstraint("event_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_fusion_events_state_due_at", "fusion_events", ["state", "due_at"])
    op.create_index("ix_fusion_events_key_position", "fusion_events", ["key", "position"])
    is_claimed = sa.text("claimed_until IS NOT NULL")
    op.create_index(
        *("ix_fusion_events_claimed_until", "fusion_events", ["claimed_until"]),
        sqlite_where=is_claimed,
        postgresql_where=is_claimed,
    )
