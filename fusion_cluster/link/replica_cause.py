"""Why a replica is out of date, in the words of causes: the owner's own are known to the owner alone."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from fusion_cluster.graph.why.cause import Cause
from fusion_cluster.link.peer_call import PeerCall
from fusion_cluster.protocol.call import OutdatedBy

MAX_ORIGIN_CHARS: Final = 400
"""Of an origin that is told to another process."""


def replica_cause(call: PeerCall, owner: str) -> Cause:
    """Return why the replica that was read by `call` is out of date.

    Args:
        call: reported as out of date.
        owner: who was asked: "shard 2".
    """
    return _cause(call.outdated_by, f"{owner} ({call.peer.owner_id})")


def sent_origin(cause: Cause) -> str:
    """Return what another process is told of a cause."""
    text = str(cause)[:MAX_ORIGIN_CHARS]
    return text.encode(errors="replace").decode()  # names of files may be no Unicode text


def told_by(peer_id: str, origin: str) -> Cause:
    """Return the cause of an invalidation that another process has asked for.

    Args:
        peer_id: who.
        origin: what for, in its words; "" if it has not said.
    """
    if not origin:
        return Cause("remote", f"{peer_id} has asked for it")
    return Cause("remote", f"{origin[:MAX_ORIGIN_CHARS]}, as told by {peer_id}")


@lru_cache(256)
def _cause(outdated_by: OutdatedBy, owner: str) -> Cause:
    match outdated_by:
        case OutdatedBy.OWNER:
            return Cause("remote", f"its owner, {owner}, has invalidated it: ask there")
        case OutdatedBy.LEASE:
            return Cause("lease", f"its owner, {owner}, was not heard of for a read lease")
        case OutdatedBy.CARRIER:
            return Cause("disconnected", f"the connection to its owner, {owner}, was lost")
        case OutdatedBy.CLOSE:
            return Cause("disconnected", f"the link to its owner, {owner}, was closed")
