"""What a graph tells people of a key: why it is out of date, and its story."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from fusion_cluster.graph.core.key import Key
from fusion_cluster.graph.core.state import State
from fusion_cluster.graph.why.abridged import abridged_arguments
from fusion_cluster.graph.why.cause import Cause
from fusion_cluster.runtime import SYSTEM_CLOCK

if TYPE_CHECKING:
    from rich.text import Text

MAX_SHOWN: Final = 40
"""How many hops a text shows; of a longer chain it leaves out the middle."""

FORGOTTEN: Final = "what lies between is forgotten"


@dataclass(frozen=True)
class Hop:
    """A computed through which an invalidation went.

    Attributes:
        key: its key.
        version: its version; 0: it was being computed.
        time_s: when it was marked as out of date, as Unix time, to some milliseconds.
    """

    key: Key
    version: int
    time_s: float

    def __str__(self) -> str:
        return key_text(self.key)


@dataclass(frozen=True)
class Trace:
    """The way of one invalidation.

    Attributes:
        hops: from the key down to the first that was marked.
        origin: what the invalidation goes back to.
        has_forgotten_hops: more computeds lie between the last hop and the origin; the graph's `history` has forgotten
            them.
    """

    hops: tuple[Hop, ...]
    origin: Cause
    has_forgotten_hops: bool = False

    def __str__(self) -> str:
        return " ← ".join(self.parts())

    def parts(self) -> Iterator[str]:
        """Go through it in words, the origin last."""
        if len(self.hops) <= MAX_SHOWN:
            yield from map(str, self.hops)
        else:
            half = MAX_SHOWN // 2
            yield from map(str, self.hops[:half])
            yield f"… {len(self.hops) - 2 * half:,} more …"
            yield from map(str, self.hops[-half:])
        if self.has_forgotten_hops:
            yield f"… {FORGOTTEN} …"
        yield str(self.origin)


@dataclass(frozen=True)
class Explanation:
    """Why a key is out of date, or was when it was invalidated last.

    Attributes:
        key: which.
        state: what it is now.
        is_out_of_date: whether it is out of date. A computed may be that while it is still being computed.
        computed_at_s: when the output that is up to date was computed, as Unix time; None if there is none, or that is
            forgotten.
        trace: the way of the last invalidation; None if there was none, or it is forgotten.
    """

    key: Key
    state: State
    is_out_of_date: bool
    computed_at_s: float | None = None
    trace: Trace | None = None

    @property
    def hops(self) -> tuple[Hop, ...]:
        """The computeds through which the last invalidation went, from the key down; none if it is forgotten."""
        return () if self.trace is None else self.trace.hops

    @property
    def origin(self) -> Cause | None:
        """What the last invalidation goes back to."""
        return None if self.trace is None else self.trace.origin

    @property
    def invalidated_at_s(self) -> float | None:
        """When the key was invalidated last, as Unix time."""
        return None if self.trace is None else self.trace.hops[0].time_s

    @property
    def summary(self) -> str:
        """One line: what the key is now, and since when."""
        name = key_text(self.key)
        if self.is_out_of_date:
            now = "is out of date" if self.state is State.INVALIDATED else "is out of date, and still being computed"
            if self.trace is None:
                return f"{name} {now}; why is forgotten"
            return f"{name} {now}, since {clock_text(self.trace.hops[0].time_s)}"
        if self.state is State.COMPUTING:
            now = "is being computed"
        elif self.computed_at_s is None:
            now = "is not out of date"
        else:
            now = f"is not out of date: computed at {clock_text(self.computed_at_s)}"
        if self.trace is None:
            return f"{name} {now}"
        return f"{name} {now}; it was invalidated at {clock_text(self.trace.hops[0].time_s)}"

    def __str__(self) -> str:
        if self.trace is None:
            return self.summary
        return f"{self.summary}:\n  " + "\n  ← ".join(self.trace.parts())

    def __rich__(self) -> Text:
        from rich.text import Text

        text = Text(self.summary, style="bold")
        if self.trace is not None:
            text.append(":")
            parts = list(self.trace.parts())
            for number, part in enumerate(parts):
                text.append("\n  " if number == 0 else "\n  ← ", style="dim not bold")
                text.append(part, style="bold red" if number == len(parts) - 1 else "cyan not bold")
        return text


class Happening(enum.Enum):
    """What can happen to a key."""

    COMPUTED = "computed"
    FAILED = "failed"
    INVALIDATED = "invalidated"
    DELAYED = "to be invalidated after a delay"
    EVICTED = "evicted"
    PAGED_OUT = "paged out"
    PAGED_IN = "paged in"


@dataclass(frozen=True)
class StoryEntry:
    """One thing that happened to a key.

    Attributes:
        happening: what.
        time_s: when, as Unix time, to some milliseconds.
        version: of which computed; 0: it was being computed.
        error: of what has failed: the name of the error's class.
        trace: of what was invalidated or evicted, or will be: the way of the invalidation. Of a value that was set by
            hand: no hops, only the origin.
    """

    happening: Happening
    time_s: float
    version: int
    error: str = ""
    trace: Trace | None = None

    @property
    def origin(self) -> Cause | None:
        """What it goes back to, where it was somebody's doing."""
        return None if self.trace is None else self.trace.origin

    def __str__(self) -> str:
        of = f"v{self.version}" if self.version else "while it was being computed"
        text = f"{clock_text(self.time_s)}  {self.happening.value} {of}"
        if self.error:
            text += f", {self.error}"
        if self.trace is None:
            return text
        return " ← ".join([text, *list(self.trace.parts())[1 if self.trace.hops else 0 :]])


def key_text(key: Key) -> str:
    """Return a key as it would be called, with long arguments abridged."""
    return f"{key.service}.{key.method}({abridged_arguments(key.arguments)})"


def clock_text(time_s: float) -> str:
    """Return a time of today as "12:00:03.120", any other with its date."""
    then = datetime.fromtimestamp(time_s)
    is_today = then.date() == datetime.fromtimestamp(SYSTEM_CLOCK.wall()).date()
    return then.time().isoformat("milliseconds") if is_today else then.isoformat(" ", "milliseconds")
