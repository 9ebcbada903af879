"""The messages of verification: what one member has cached, and what the owner of the key says to it.

They travel between members over the control plane alone, so that no client can send or ask for one.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class CachedKey(Struct, frozen=True):
    """A key, as all members of a cluster know it.

    Attributes:
        method: the full name of its compute method.
        arguments: the canonical arguments, encoded.
        principal: the principal whose variant it is, in JSON; None: its results are shared.
    """

    method: str
    arguments: bytes
    principal: str | None = None


class Look(Struct, frozen=True):
    """A cached value, as one member would serve it.

    Attributes:
        key: the key.
        member: the name of the member.
        owner: the shard that owns the key, as that member knows it; -1: there is one process.
        version: the version of the computed.
        digest: the digest of the value's normal form.
        shown: the value as a short text; "" if it depends on who asks.
        command: the command that has changed the key lately, in words; "": the key was chosen at random.
    """

    key: CachedKey
    member: str
    owner: int
    version: int
    digest: bytes
    shown: str = ""
    command: str = ""


class Verdict(StrEnum):
    """The result of one comparison. The values are words for people, and for metrics."""

    SAME = "same"
    STALE = "stale"
    """The owner computes another value than the one that is cached."""
    REPLICA_DIFFERS = "replica differs"
    """A replica has the version of its owner's computed, and another value."""
    OUTLIVED = "outlived"
    """A member serves a version that the owner has invalidated."""
    TIMED = "has a time of its own"
    """Its body has said for how long it stands."""
    PENDING = "waits for its delay"
    """Its invalidation waits for the delay of its method."""
    FAILED = "is an error"
    """An error is cached, which ends by the delays of errors."""
    UNSTABLE = "differs each time"
    """The body gives another value at each run."""
    UNCOMPUTED = "could not be computed"
    """The body failed with an error that may go away by itself, or took too long."""
    UNCOMPARABLE = "cannot be compared"
    """The value cannot be encoded, or is too large."""
    OVERTAKEN = "changed meanwhile"
    """It was invalidated while it was compared."""
    UNREACHABLE = "its owner did not answer"
    """The owner could not be asked, or does not own the key any more."""

    @property
    def differs(self) -> bool:
        """Whether the cached value is not what it should be, so far."""
        return self in (Verdict.STALE, Verdict.REPLICA_DIFFERS, Verdict.OUTLIVED)


class Answer(Struct, frozen=True):
    """What the owner of a key says to a cached value.

    Attributes:
        verdict: the result of the comparison.
        fresh: the value that was computed, or the error, as a short text; "" if it depends on who asks.
        difference: where the two values differ, in words; "" likewise.
        lag_s: how long the value may lag by the options of its method, in seconds.
        reason: why there was nothing to compare, in words.
    """

    verdict: Verdict
    fresh: str = ""
    difference: str = ""
    lag_s: float = 0.0
    reason: str = ""
