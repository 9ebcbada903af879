"""What connecting may raise, and what becomes of it."""

from __future__ import annotations

import pytest
from asyncpg.exceptions import ConnectionDoesNotExistError, InterfaceError, InvalidPasswordError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from fusion_cluster.database.availability import reaching
from fusion_cluster.errors import DatabaseUnavailable


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError("nobody listens"),
        PoolTimeoutError("all connections are in use"),
        InterfaceError("connection is closed"),
        ConnectionDoesNotExistError("connection was closed in the middle of operation"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_is_lost_while_it_is_reached_is_unavailable(error: Exception) -> None:
    with pytest.raises(DatabaseUnavailable, match="cannot be reached") as caught, reaching():
        raise error
    assert caught.value.is_transient


def test_what_does_not_go_away_by_itself_is_told_as_it_is() -> None:
    with pytest.raises(InvalidPasswordError), reaching():
        raise InvalidPasswordError("the password is wrong")
