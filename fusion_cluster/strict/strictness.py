"""The checks that a strict host adds to its graph and to its commands.

- A result of a compute method is encoded as for another process, and decoded by its annotation. Readers get the decoded
  value. So a type that cannot travel, and a result that does not match the annotation, are errors of the computation
  (`InvalidResult`).
- A result that can be changed is compared with its encoded form: when it is read, when a body that has read it ends,
  when it is invalidated, and when the host is closed. The reader, or else the end of the host, gets `ResultChanged`.
- Results of commands pass through their codecs, as arguments do everywhere: neither side holds the other's objects.

Errors, the values of states and the arguments of nested commands are not checked: they are not cached for other
readers, or they do not leave the process as values.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import wraps
from typing import Any, Final, NamedTuple

import msgspec

from fusion_cluster.bodies.offload import BodyWrapper
from fusion_cluster.catalogue.method import AsyncBody, Method
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.errors import InvalidResult, ResultChanged
from fusion_cluster.graph import Computed, Graph
from fusion_cluster.graph.computing.consolidation import is_source
from fusion_cluster.graph.computing.freezing import freeze_result, is_frozen
from fusion_cluster.graph.core.hot_path import CONSISTENT, Node, dependencies_of, dependents_of
from fusion_cluster.graph.core.key import SOURCE
from fusion_cluster.graph.why.cause import Cause, call_site
from fusion_cluster.strict.agreement import disagreement, says_nothing
from fusion_cluster.strict.difference import difference
from fusion_cluster.wire.description import type_name
from fusion_cluster.wire.results import decode_result, encode_result
from fusion_cluster.wire.values import encode_msgpack

logger = logging.getLogger(__name__)

CHANGED: Final = Cause("changed", "its value was changed in place")
MAX_TOLD: Final = 5
"""How many changed results the error at the end names."""

ADVICE: Final = "A result is shared by all who read it: make a copy to change it, or freeze it with freeze=True"


class _Kept(msgspec.Struct, eq=False):
    """The record that is kept for a result that can be changed.

    Attributes:
        encoded: the result, encoded when it was cached.
        came: the object that the method returned; the service may hold it.
        came_encoded: that object, encoded when the result was cached.
        read_at: the place of the last read.
    """

    encoded: bytes
    came: Any
    came_encoded: bytes
    read_at: Cause | None = None


class Travelled(NamedTuple):
    """A value after its way to another process.

    Attributes:
        value: the value that arrives there.
        encoded: its bytes on the way.
    """

    value: Any
    encoded: bytes


class Strictness:
    """Checks the values of one strict host (a `graph.guarded.Guard`).

    Attributes:
        findings: errors for changed results that could not be raised to a reader.
    """

    def __init__(self) -> None:
        self.findings: list[ResultChanged] = []
        self._kept: dict[Node[Any], _Kept] = {}
        """The records of the live nodes whose results can be changed."""

    # -- results -----------------------------------------------------------------------------------------------------
    def admit(self, node: Computed[Any], value: Any) -> Any:
        """Return the value to cache for the value that a body has returned.

        Raises:
            InvalidResult: the value cannot leave the process, or does not match the annotation.
            ResultChanged: the body has changed a result that it has read.
        """
        function = node.function
        for used in dependencies_of(node):
            self._check(used, f"{node.key} has read it, and has perhaps changed it")
        arrived, encoded = travelled(function.method, value)
        if function.options.freeze:
            return freeze_result(node, arrived)
        if node._state <= CONSISTENT and not (is_frozen(arrived) and is_frozen(value)):
            self._kept[node] = _Kept(encode_msgpack(arrived), value, encoded)
        return arrived

    def before_read(self, node: Node[Any]) -> None:
        """Check that a result has not changed.

        Raises:
            ResultChanged: it has changed. The next read computes it again.
        """
        kept = self._kept.get(node)
        if kept is not None:
            self._check(node)
            kept.read_at = call_site()

    def before_invalidation(self, node: Node[Any]) -> None:
        """Note which results, of those about to be invalidated, a reader has changed, and forget them all."""
        if not self._kept:
            return
        pending, seen = [node], {node}
        while pending:
            marked = pending.pop()
            kept = self._kept.pop(marked, None)
            # A change by the service itself is right here: this invalidation announces it.
            if kept is not None and kept.came is not _value_of(marked):
                self._note(marked, kept, _value_of(marked))
            if kept is not None and is_source(marked):  # its new value would be compared with the same object
                self._note(marked, kept, kept.came)
            for dependent in dependents_of(marked):
                is_delayed = dependent.table.is_delayed and dependent._state == CONSISTENT
                if dependent not in seen and dependent._state <= CONSISTENT and not is_delayed:
                    seen.add(dependent)
                    pending.append(dependent)

    # -- the end -----------------------------------------------------------------------------------------------------
    def check_all(self) -> None:
        """Note all changed results, and forget all records: the host is about to close."""
        for node, kept in list(self._kept.items()):
            value = _value_of(node)
            self._note(node, kept, value)
            if kept.came is not value:
                self._note(node, kept, kept.came)
        self._kept.clear()

    # -- commands ----------------------------------------------------------------------------------------------------
    def around(self, wrap: BodyWrapper) -> BodyWrapper:
        """Return a wrapper that does what `wrap` does, and passes the results of commands through their codecs."""

        def wrap_strictly(body: AsyncBody, method: Method, instance: ComputeService) -> AsyncBody:
            wrapped = wrap(body, method, instance)
            return _passed_through_codecs(wrapped, method) if method.kind == "command" else wrapped

        return wrap_strictly

    # -- inside ------------------------------------------------------------------------------------------------------
    def _check(self, node: Node[Any], suspicion: str = "") -> None:
        kept = self._kept.get(node)
        if kept is None or (value := _value_of(node)) is _ABSENT:
            return
        error = _changed(node, kept, value, suspicion)
        if error is None and kept.came is not value:
            error = _changed(node, kept, kept.came)
        if error is None:
            return
        del self._kept[node]
        graph: Graph = node.function.graph
        if graph.is_in_own_thread():
            graph.invalidate_now(node, CHANGED)
        raise error

    def _note(self, node: Node[Any], kept: _Kept, value: Any) -> None:
        error = None if value is _ABSENT else _changed(node, kept, value)
        if error is not None:
            logger.error("%s", error.message)
            self.findings.append(error)


def raise_findings(strict: Iterable[Strictness]) -> None:
    """Raise the findings that could not be raised to a reader.

    Raises:
        ResultChanged: results were changed; the message names the first of them.
    """
    findings = [finding for one in strict for finding in one.findings]
    if findings:
        more = f"\n… and {len(findings) - MAX_TOLD} more" if len(findings) > MAX_TOLD else ""
        raise ResultChanged("\n".join(finding.message for finding in findings[:MAX_TOLD]) + more, field="return")


def travelled(method: Method, value: Any) -> Travelled:
    """Encode and decode a method's result, as on the way to another process.

    Raises:
        InvalidResult: the result cannot leave the process, or does not match the annotation.
    """
    hint, name = method.signature.result_type, method.name
    encoded = encode_result(name, value)
    if says_nothing(hint):
        return Travelled(value, encoded)
    arrived = decode_result(name, method.result, encoded)
    if wrong := disagreement(hint, arrived, value):
        raise InvalidResult(f"{name} says that it returns {type_name(hint)}, but {wrong}", field="return")
    return Travelled(arrived, encoded)


def _passed_through_codecs(body: AsyncBody, method: Method) -> AsyncBody:
    @wraps(body, updated=())
    async def strict_body(*args: Any, **kwargs: Any) -> Any:
        return travelled(method, await body(*args, **kwargs)).value

    return strict_body


_ABSENT: Final = object()


def _value_of(node: Node[Any]) -> Any:
    """Return the value of a node; `_ABSENT` if it was paged out."""
    return getattr(node, "_value", _ABSENT)


def _changed(node: Any, kept: _Kept, value: Any, suspicion: str = "") -> ResultChanged | None:
    """Return the error that says how a value, cached or returned, has changed since then; None if it has not."""
    is_returned = value is kept.came
    what = difference(kept.came_encoded if is_returned else kept.encoded, value)
    if not what:
        return None
    who = "the service holds what it returned, and " if is_returned and value is not _value_of(node) else ""
    place = kept.read_at and kept.read_at.place
    hints = [suspicion] if suspicion else [f"it was last read at {place}"] if place else []
    key = str(node.key).replace(SOURCE, "")
    text = f"{key}: {who}its result was changed after it had been cached: {what}"
    return ResultChanged(f"{'; '.join([text, *hints])}. {ADVICE}", field="return")
