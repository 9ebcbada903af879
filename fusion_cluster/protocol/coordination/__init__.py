"""Coordination: the decisions of the coordinator, without IO. Events and times in, effects out."""

from fusion_cluster.protocol.coordination.coordination import START_ATTEMPTS, WHOLE_MAP_TIMEOUT_S, Coordination
from fusion_cluster.protocol.coordination.effects import (
    AnswerEpoch,
    AnswerMap,
    Effect,
    FailLaunch,
    KillMember,
    ReportLaunch,
    ReportStop,
    SetTimer,
    StartMember,
    StopMember,
)
from fusion_cluster.protocol.coordination.events import (
    AskerLeft,
    Began,
    Died,
    EpochAsked,
    Event,
    MapAsked,
    Registered,
    Served,
    StartFailed,
    StopAsked,
    Stopped,
    Ticked,
)
from fusion_cluster.protocol.coordination.life import LIFE, Life, LifeEvent
from fusion_cluster.protocol.coordination.members import MemberId, Role

__all__ = [
    "LIFE",
    "START_ATTEMPTS",
    "WHOLE_MAP_TIMEOUT_S",
    "AnswerEpoch",
    "AnswerMap",
    "AskerLeft",
    "Began",
    "Coordination",
    "Died",
    "Effect",
    "EpochAsked",
    "Event",
    "FailLaunch",
    "KillMember",
    "Life",
    "LifeEvent",
    "MapAsked",
    "MemberId",
    "Registered",
    "ReportLaunch",
    "ReportStop",
    "Role",
    "Served",
    "SetTimer",
    "StartFailed",
    "StartMember",
    "StopAsked",
    "StopMember",
    "Stopped",
    "Ticked",
]
