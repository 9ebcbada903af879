"""The name of one computed: which method of which service, with which arguments."""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Protocol

SOURCE: Final = ":source"
"""How the method names of sources end (see `computing.consolidation`); what people see names the targets alone."""


class Key(NamedTuple):
    """Identity of a computed within an app.

    `arguments` are canonical (see `Signature.bind`), so that every spelling of one call has one key.
    """

    service: str
    method: str
    arguments: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.service}.{self.method}({', '.join(map(_in_text, self.arguments))})"


def _in_text(argument: object) -> str:
    try:
        return repr(argument)
    except Exception:  # from a `__repr__` of users
        return f"<{type(argument).__name__}>"


class Keyed(Protocol):
    """A node, whose function has these names."""

    @property
    def function(self) -> Any:
        """The compute function."""
        ...

    @property
    def arguments(self) -> tuple[Any, ...]:
        """The canonical arguments."""
        ...


def key_of(node: Keyed) -> Key:
    """Return the key of a node."""
    return Key(node.function.service_name, node.function.method_name, node.arguments)
