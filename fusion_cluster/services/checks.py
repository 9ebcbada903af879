"""Checks the texts that built-in services take; each error names the argument. Numbers: `fusion_cluster.quantities`."""

from __future__ import annotations

from fusion_cluster.errors import InvalidArgument


def require_text(field: str, value: object, most: int, least: int = 1) -> None:
    """Check that a value is a text of `least` to `most` characters that every database can hold.

    Raises:
        InvalidArgument: it is not such a text.
    """
    if not isinstance(value, str) or not least <= len(value) <= most:
        size = f", this has {len(value):,}" if isinstance(value, str) else ""
        raise InvalidArgument(f"{field} must be a text of {least} to {most} characters{size}", field=field)
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise InvalidArgument(f"{field} must not contain NUL or half of a surrogate pair", field=field)
