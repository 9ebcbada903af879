"""Causes of replicas that are out of date. The cause of the owner's own invalidation is known only at the owner."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from fusion_cluster.graph.why.cause import Cause
from fusion_cluster.link.peer_call import PeerCall
from fusion_cluster.protocol.call import OutdatedBy

MAX_ORIGIN_CHARS: Final = 400
"""The longest origin that is sent to another process."""


def replica_cause(call: PeerCall, owner: str) -> Cause:
    """Return why the replica that was read by `call` is out of date.

    Args:
        call: the read that was reported as out of date.
        owner: names the owner of the key: "shard 2".
    """
    return _cause(call.outdated_by, f"{owner} ({call.peer.owner_id})")


def sent_origin(cause: Cause) -> str:
    """Return the text of a cause for another process."""
    text = str(cause)[:MAX_ORIGIN_CHARS]
    return text.encode(errors="replace").decode()  # names of files may not be valid Unicode


def told_by(peer_id: str, origin: str) -> Cause:
    """Return the cause of an invalidation that another process has asked for.

    Args:
        peer_id: names that process.
        origin: its cause, as a text from that process; "" if it gave none.
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
