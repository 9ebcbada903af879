"""Keys as the operation log has them: the method's full name, the encoded arguments, what they are invalidated for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping

from fusion_cluster.commands import LoggedKey
from fusion_cluster.errors import UsageError
from fusion_cluster.graph import Cause, ComputeFunction, Key
from fusion_cluster.link.replica_cause import sent_origin, told_by
from fusion_cluster.wire.codec import ArgumentsCodec

logger = logging.getLogger(__name__)


def logged_keys(keys: Mapping[Key, Cause], codec: Callable[[str], ArgumentsCodec]) -> list[LoggedKey]:
    """Keys, with their causes, as they are logged.

    Args:
        keys: which.
        codec: gives the codec of a method's arguments, by its full name.
    """
    found = []
    for key, cause in keys.items():
        name = f"{key.service}.{key.method}"
        found.append((name, codec(name).encode(key.arguments), sent_origin(cause)))
    return found


def keys_of(
    logged: Iterable[LoggedKey],
    teller: str,
    *,
    codec: Callable[[str], ArgumentsCodec],
    function: Callable[[str], ComputeFunction],
) -> dict[Key, Cause]:
    """The keys that were logged as these; those that nobody here knows are left out, for nothing of them is kept.

    Args:
        logged: which.
        teller: who says so, for the causes.
        codec: gives the codec of a method's arguments, by its full name.
        function: gives the method.
    """
    found: dict[Key, Cause] = {}
    for name, encoded, origin in logged:
        try:
            arguments = codec(name).decode_msgpack(encoded)
        except UsageError as error:  # of another version of the app
            logger.info("the operation log names a key that is none here: %s", error)
            continue
        method = function(name)
        found[Key(method.service_name, method.method_name, arguments)] = told_by(teller, origin)
    return found
