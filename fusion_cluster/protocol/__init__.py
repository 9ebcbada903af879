"""The session protocol without IO: bytes and times in, events and bytes out."""

from fusion_cluster.protocol.call import CallKind, OutgoingCall
from fusion_cluster.protocol.caller import CallerSession
from fusion_cluster.protocol.framing import FrameReader, with_length
from fusion_cluster.protocol.handshake import OwnerHandshake
from fusion_cluster.protocol.limits import MAX_FRAME_SIZE, PROTOCOL_VERSION, SessionLimits
from fusion_cluster.protocol.owner import OwnerSession

__all__ = [
    "MAX_FRAME_SIZE",
    "PROTOCOL_VERSION",
    "CallKind",
    "CallerSession",
    "FrameReader",
    "OutgoingCall",
    "OwnerHandshake",
    "OwnerSession",
    "SessionLimits",
    "with_length",
]
