"""Events: facts that the caller of a `Coordination` reports to it. Effects follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from fusion_cluster.protocol.coordination.members import MemberId
from fusion_cluster.protocol.slot_map import ShardAddress


@dataclass(frozen=True)
class Began:
    """The coordinator runs. Comes once, first."""


@dataclass(frozen=True)
class EpochAsked:
    """The process of a member has begun, and asks for its epoch.

    Attributes:
        member: which member.
        asker: a name for this question; the answer carries it.
    """

    member: MemberId
    asker: int


@dataclass(frozen=True)
class Registered:
    """A shard listens, in the epoch of the address. It may not serve yet."""

    address: ShardAddress


@dataclass(frozen=True)
class Served:
    """A member describes itself, so it serves.

    Attributes:
        member: which member.
        epoch: its incarnation.
        address: where a shard listens; None for a gateway.
    """

    member: MemberId
    epoch: int
    address: ShardAddress | None = None


@dataclass(frozen=True)
class Died:
    """The process that was started or watched has ended, or is taken for dead.

    Attributes:
        member: which member.
        epoch: the incarnation that was reported as serving; 0: none was reported since the start.
    """

    member: MemberId
    epoch: int = 0


@dataclass(frozen=True)
class StartFailed:
    """A process runs, but cannot serve.

    Attributes:
        member: which member.
        reason: the reason that it gave.
    """

    member: MemberId
    reason: str


@dataclass(frozen=True)
class MapAsked:
    """An asker has a map of a version, and wants the next one.

    Attributes:
        asker: a name for this question; the answer carries it.
        newer_than: the version that the asker has; 0: it has none, any map will do.
    """

    asker: int
    newer_than: int


@dataclass(frozen=True)
class AskerLeft:
    """A question for a map needs no answer any more."""

    asker: int


@dataclass(frozen=True)
class StopAsked:
    """The app is to end."""


@dataclass(frozen=True)
class Stopped:
    """A member that had to stop does not run any more, in whatever way it ended."""

    member: MemberId


@dataclass(frozen=True)
class Ticked:
    """Time has passed."""


Event: TypeAlias = (
    Began | EpochAsked | Registered | Served | Died | StartFailed | MapAsked | AskerLeft | StopAsked | Stopped | Ticked
)
