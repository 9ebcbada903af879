"""The numbers that both ends of a session agree on, and the bounds each end keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fusion_cluster.wire.limits import MAX_PAYLOAD_SIZE

PROTOCOL_VERSION: Final = 2
"""The version of the session protocol spoken here; the other end must speak the same."""

MAX_FRAME_SIZE: Final = MAX_PAYLOAD_SIZE + 64 * 1024
"""Largest frame in bytes, without its length prefix: a payload, and room for its envelope."""

MAX_HANDSHAKE_FRAME_SIZE: Final = 16 * 1024
"""Largest frame in bytes that is accepted from a peer before its proof of identity."""

NONCE_SIZE: Final = 16
"""Smallest number of bytes of a nonce and of a resume token."""

LEASE_DRIFT_MARGIN: Final = 0.05
"""The part of a read lease that the caller's end gives up, because its clock may run slower than the owner's."""


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """Bounds that the owner's end keeps for each session.

    Attributes:
        max_calls: how many calls that run, plus results of requests that the caller has not confirmed.
        max_subscriptions: how many answered reads that are still subscribed, plus `max_calls`.
        retry_after_ms: the pause that a caller beyond the bounds is asked for.
    """

    max_calls: int = 65_536
    max_subscriptions: int = 1_000_000
    retry_after_ms: int = 100
