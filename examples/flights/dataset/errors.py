"""What can go wrong with the data's files."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from fusion_cluster.errors import FusionError


class FlightsDataError(FusionError):
    """The flights cannot be loaded or kept; the message says what to do about it."""


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turn what the system says about a full disk or a forbidden folder into a FlightsDataError."""
    try:
        yield
    except (OSError, sqlite3.Error, DBAPIError) as error:
        reason = _reason(error, folder)
        if reason is None:
            raise
        raise FlightsDataError(f"{reason}; set FUSION_FLIGHTS_DATA to another folder") from error


def _reason(error: Exception, folder: Path) -> str | None:
    text = str(error)
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.ENOSPC or "database or disk is full" in text:
        free_mb = shutil.disk_usage(folder).free // 2**20
        return f"the disk of {folder} is full ({free_mb} MB free; the flights need about 250 MB)"
    unwritable = ("unable to open database file", "attempt to write a readonly database")
    if number in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOENT) or any(
        part in text for part in unwritable
    ):
        return f"the folder {folder} cannot be written"
    return None
