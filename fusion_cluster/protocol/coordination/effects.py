"""Effects: actions that the caller of a `Coordination` has to run, in the order given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from fusion_cluster.protocol.coordination.members import MemberId
from fusion_cluster.protocol.slot_map import SlotMap


@dataclass(frozen=True)
class StartMember:
    """Start a member, or find its running process, and report what becomes of it."""

    member: MemberId


@dataclass(frozen=True)
class KillMember:
    """End the process of a member; `StartMember` follows."""

    member: MemberId


@dataclass(frozen=True)
class StopMember:
    """Stop a member for good, in good order if it can."""

    member: MemberId


@dataclass(frozen=True)
class AnswerEpoch:
    """Answer `EpochAsked`.

    Attributes:
        asker: the name of the question.
        epoch: higher than any epoch that this member had before.
    """

    asker: int
    epoch: int


@dataclass(frozen=True)
class AnswerMap:
    """Answer `MapAsked`. To get the next map as well, the asker asks again.

    Attributes:
        asker: the name of the question.
        slot_map: newer than the one that is known there.
    """

    asker: int
    slot_map: SlotMap


@dataclass(frozen=True)
class ReportLaunch:
    """All members serve, for the first time."""


@dataclass(frozen=True)
class FailLaunch:
    """A member cannot start.

    Attributes:
        reason: a sentence for the person who launches the app.
    """

    reason: str


@dataclass(frozen=True)
class SetTimer:
    """Report `Ticked` at this time, in seconds of the clock that the events come with, or soon after it."""

    at_s: float


@dataclass(frozen=True)
class ReportStop:
    """All members have stopped."""


Effect: TypeAlias = (
    StartMember | KillMember | StopMember | AnswerEpoch | AnswerMap | ReportLaunch | FailLaunch | SetTimer | ReportStop
)
