"""Draws the transition tables into docs/protocol.md: `python -m tools.diagrams`.

A diagram stands between `<!-- table: NAME -->` and `<!-- end of table -->`; what is between them is made, never edited.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Final

from fusion_cluster.commands.operation_states import OPERATION
from fusion_cluster.graph.core.pure.states import NODE
from fusion_cluster.protocol.coordination import LIFE
from fusion_cluster.protocol.states import CALLER_CALL, CALLER_LINK, OWNER_CALL, OWNER_LINK

DOCUMENT: Final = Path(__file__).resolve().parents[1] / "docs" / "protocol.md"

TABLES: Final[dict[str, Mapping[Any, Mapping[Any, Any]]]] = {
    "CALLER_LINK": CALLER_LINK,
    "CALLER_CALL": CALLER_CALL,
    "OWNER_LINK": OWNER_LINK,
    "OWNER_CALL": OWNER_CALL,
    "LIFE": LIFE,
    "NODE": NODE,
    "OPERATION": OPERATION,
}
"""Every transition table of the library, by the name that documents use."""

_PLACE: Final = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def diagram(table: Mapping[Enum, Mapping[Enum, Enum]]) -> str:
    """Return a table as a Mermaid state diagram; events with the same effect share an arrow."""
    lines = ["```mermaid", "stateDiagram-v2"]
    for state, row in table.items():
        arrows: dict[Enum, list[str]] = {}
        for event, following in row.items():
            arrows.setdefault(following, []).append(event.name)
        lines += [f"  {state.name} --> {following.name}: {', '.join(names)}" for following, names in arrows.items()]
    return "\n".join([*lines, "```", ""])


def drawn(text: str) -> str:
    """Return a document with its diagrams made anew.

    Raises:
        KeyError: it names a table that there is not.
    """
    return _PLACE.sub(lambda place: place[1] + diagram(TABLES[place[2]]) + place[3], text)


if __name__ == "__main__":
    DOCUMENT.write_text(drawn(DOCUMENT.read_text()))
