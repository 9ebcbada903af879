"""Results that depend on who asks: a method that has read `principal()` *varies*, and has results for each principal.

A function begins as *shared*: its results are everybody's. When a shared computation reads the principal, or a result
that varies, its function varies from then on: its shared results are gone, its computations are given up, and whoever
waited for one is sent to a *variant*, the same method for one principal. So varying spreads from what is read to
whoever reads it, once for each method and process; from then on a variant is found by the principal of the reader.

Invariant: what a shared computation gives depends on no principal; what a variant gives, on its own alone.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, NoReturn

import msgspec

from fusion_cluster.errors import UsageError
from fusion_cluster.graph.computing.function import Function
from fusion_cluster.graph.core.context import offloaded_computation, running_computation, running_task_name
from fusion_cluster.graph.core.hot_path import Node
from fusion_cluster.graph.why.cause import VARIES
from fusion_cluster.runtime.baggage import current_principal

NOBODY: Final = "null"
"""The key of the variants for those who are not known."""

MAX_KEY_LENGTH: Final = 4096
"""How many characters the principal of a read may have, in JSON."""

_encode: Final = msgspec.json.Encoder(order="deterministic").encode


def principal() -> Any:
    """Return on whose behalf the code runs that calls this; None: nobody is known.

    In a compute method it makes the result that principal's own: the method *varies*, and so does each method that uses
    its results. It is text or JSON data, as given to `acting_as`.

    Raises:
        UsageError: the method, or one that uses its results, has `varies=False`; it runs as a `RayTask`; or it has said
            `acting_as`, which is for callers.
    """
    if (task := running_task_name.get()) is not None:
        raise UsageError(f"{task} runs as a task, which does not know who asks: take the principal as an argument")
    node = running_computation.get() or offloaded_computation.get()
    if node is None or node._computation is None:  # what a computation has left behind is part of no result
        return current_principal.get()
    function: Function[Any] = node.function
    if function.principal is not None:
        _require_own_principal(function)
        return msgspec.json.decode(function.principal)
    if function.graph.is_in_own_thread():
        vary(node)
    _require_varying(function)
    loop = function.graph.loop
    if loop is not None:
        loop.call_soon_threadsafe(begin_to_vary, function)
    raise asyncio.CancelledError


def principal_key(principal: Any) -> str:
    """Return what the variants for a principal are found by.

    Raises:
        UsageError: it is neither text nor JSON data, or it is too long.
    """
    encoded = b""
    try:
        encoded = _encode(principal)
        is_same = bool(msgspec.json.decode(encoded) == principal)
    except Exception:
        is_same = False
    if not is_same or len(encoded) > MAX_KEY_LENGTH:
        raise UsageError(
            f"a principal that a result depends on must be text or JSON data of {MAX_KEY_LENGTH:,} bytes at most, "
            f"not a {type(principal).__name__}: give acting_as() a name, a number or a dict of them"
        )
    return encoded.decode()


def reader_key() -> str:
    """Return the key of the principal of whoever reads in this context.

    Raises:
        asyncio.CancelledError: a shared computation reads, which is given up: it varies.
        UsageError: it must not vary.
    """
    node = running_computation.get()
    if node is not None and node._computation is not None:
        function: Function[Any] = node.function
        if function.principal is None:
            vary(node)
        _require_own_principal(function)
        return function.principal
    return principal_key(current_principal.get())


def vary(node: Node[Any]) -> NoReturn:
    """Give up a shared computation that depends on who asks; those who wait for it are sent to variants.

    Raises:
        asyncio.CancelledError: always, to whoever has called in the body.
        UsageError: it must not vary.
    """
    function: Function[Any] = node.function
    _require_varying(function)
    begin_to_vary(function)
    if node._computation is not None:  # out of date before: it has not been in the table
        node._computation.abandon(VARIES)
    raise asyncio.CancelledError


def begin_to_vary(function: Function[Any]) -> None:
    """Keep the results of a function for each principal from now on."""
    if function.variants is not None or function.principal is not None:
        return
    function.variants = {}
    function.on_varying()
    for node in function.nodes():
        if node._computation is not None:
            node._computation.abandon(VARIES)
        function.graph.invalidate_now(node, VARIES)


def _require_varying(function: Function[Any]) -> None:
    if not function.options.varies:
        raise UsageError(f"{function.name} has varies=False: its result must not depend on who asks")


def _require_own_principal(function: Function[Any]) -> None:
    """Refuse a body that reads for somebody else than the principal whom its result is for.

    Raises:
        UsageError: it does.
    """
    try:
        is_own = _encode(current_principal.get()).decode() == function.principal
    except Exception:
        is_own = False
    if not is_own:
        raise UsageError(
            f"{function.name} says acting_as(...) and then reads what depends on who asks: a compute method reads for "
            "whoever asks for it. Let its callers say acting_as, or take as an argument for whom it reads"
        )
