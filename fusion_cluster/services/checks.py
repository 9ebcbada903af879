"""What arguments of the built-in services must be; each error names the argument."""

from __future__ import annotations

import math

from fusion_cluster.errors import InvalidArgument


def require_text(field: str, value: object, most: int, least: int = 1) -> None:
    """Check that a value is a text of so many characters that every database can hold.

    Raises:
        InvalidArgument: it is not.
    """
    if not isinstance(value, str) or not least <= len(value) <= most:
        size = f", this has {len(value):,}" if isinstance(value, str) else ""
        raise InvalidArgument(f"{field} must be a text of {least} to {most} characters{size}", field=field)
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise InvalidArgument(f"{field} must have no NUL and no halves of characters in it", field=field)


def require_count(field: str, value: object, most: int) -> None:
    """Check that a value is a whole number from 1 to `most`.

    Raises:
        InvalidArgument: it is not.
    """
    if not isinstance(value, int) or not 1 <= value <= most:
        raise InvalidArgument(f"{field} must be a whole number from 1 to {most}, not {value!r}", field=field)


def require_seconds(field: str, value: object) -> None:
    """Check that a value is a finite number above 0.

    Raises:
        InvalidArgument: it is not.
    """
    if not isinstance(value, int | float) or not 0 < value < math.inf:
        raise InvalidArgument(f"{field} must be a number of seconds above 0, not {value!r}", field=field)
