"""Events carry baggage. Older rows have none; members of the former version read and write rows without it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0002"
down_revision = "0001"


def upgrade(op: Operations) -> None:
    """Add the column."""
    op.add_column("fusion_events", sa.Column("baggage", sa.String, nullable=True))
