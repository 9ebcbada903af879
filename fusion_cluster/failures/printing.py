"""What is printed of an exception in a log or a note: whatever its class does, and however many it holds.

Python's own `traceback` fails where the class of an exception does, which breaks a line of the log, and goes through
all members of a group, also those that it does not show.
"""

from __future__ import annotations

import traceback
from typing import Any, Final

from fusion_cluster.failures.exact_copies import MEMBERS, MESSAGE, set_surroundings, surroundings_of
from fusion_cluster.failures.exits import TRACEBACK, in_words, reraise_outside

MAX_MEMBERS: Final = 15
"""Of each group; as many as Python shows."""

MAX_DEPTH: Final = 8
"""How deeply groups are nested that are shown."""


class UnprintableError(Exception):
    """Stands for an exception that cannot be printed; its text is the class and what is known of the text."""


def printable(error: BaseException) -> BaseException:
    """Return an exception to print in place of `error`: itself, if that can be printed and is not too large."""
    try:
        shown = _pruned(error, MAX_DEPTH)
        traceback.format_exception(shown)
    except BaseException as raised:  # a class of users may do anything
        reraise_outside(raised)
        return UnprintableError(in_words(error)).with_traceback(TRACEBACK.__get__(error))
    return shown


def _pruned(error: BaseException, depth: int) -> BaseException:
    """Return a group with fewer members if it has too many, or they are nested too deeply."""
    if not issubclass(type(error), BaseExceptionGroup):
        return error
    members: tuple[BaseException, ...] = MEMBERS.__get__(error)
    if depth == 0:
        return UnprintableError(in_words(error))
    shown = [_pruned(member, depth - 1) for member in members[:MAX_MEMBERS]]
    if len(shown) == len(members) and all(one is other for one, other in zip(shown, members, strict=True)):
        return error
    pruned: Any = BaseExceptionGroup(MESSAGE.__get__(error), shown)
    set_surroundings(pruned, *surroundings_of(error))
    if len(shown) < len(members):
        pruned.add_note(f"and {len(members) - len(shown):,} more exceptions")
    return pruned  # type: ignore[no-any-return]
