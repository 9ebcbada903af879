"""The name of one computed: which method of which service, with which arguments."""

from __future__ import annotations

from typing import Any, NamedTuple


class Key(NamedTuple):
    """Identity of a computed within an app.

    `arguments` are canonical (see `Signature.bind`), so that every spelling of one call has one key.
    """

    service: str
    method: str
    arguments: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.service}.{self.method}({', '.join(map(repr, self.arguments))})"
