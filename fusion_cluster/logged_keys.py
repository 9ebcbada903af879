"""Converts keys to and from the form of the operation log: method's full name, encoded arguments, cause."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from fusion_cluster.catalogue.method import Method
from fusion_cluster.commands import LoggedKey
from fusion_cluster.errors import UsageError
from fusion_cluster.graph import Cause, Key
from fusion_cluster.link.replica_cause import sent_origin, told_by

logger = logging.getLogger(__name__)


def logged_keys(keys: Mapping[Key, Cause], methods: Mapping[str, Method]) -> list[LoggedKey]:
    """Return keys, with their causes, in the form of the log.

    Args:
        keys: the keys, each with its cause.
        methods: the methods of the app, by full name.
    """
    found = []
    for key, cause in keys.items():
        method = methods[f"{key.service}.{key.method}"]
        found.append((method.name, method.arguments.encode(key.arguments), sent_origin(cause)))
    return found


def keys_of(logged: Iterable[LoggedKey], teller: str, methods: Mapping[str, Method]) -> dict[Key, Cause]:
    """Return the keys for logged ones; keys that this version of the app does not know are left out.

    Args:
        logged: the logged keys.
        teller: names the source of the invalidation, for the causes.
        methods: the methods of the app, by full name.
    """
    found: dict[Key, Cause] = {}
    for name, encoded, origin in logged:
        method = methods.get(name)
        if method is None or method.kind != "compute":
            logger.info("the operation log names a key of %r, which is not a compute method of this app", name)
            continue
        try:
            arguments = method.arguments.decode_msgpack(encoded)
        except UsageError as error:
            logger.info("the operation log names a key that this app does not have: %s", error)
            continue
        found[Key(method.service_name, method.method_name, arguments)] = told_by(teller, origin)
    return found
