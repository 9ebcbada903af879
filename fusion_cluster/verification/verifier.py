"""The part of one member in verification: it shows what it has cached, and compares cached values of keys it owns.

Invariant: a value is compared only while its computed is consistent, before and after the comparison.
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import Any, Final, Protocol

from fusion_cluster.bodies.expiry import Expiry
from fusion_cluster.catalogue.options import ComputeOptions
from fusion_cluster.errors import FusionError
from fusion_cluster.failures.exits import in_words, reraise_outside
from fusion_cluster.failures.failure import is_memoized
from fusion_cluster.graph import Cause, Computed, ComputeFunction, Graph, Key
from fusion_cluster.graph.computing.equality import is_equal
from fusion_cluster.graph.core.hot_path import CONSISTENT
from fusion_cluster.graph.core.pure.history import OUT_OF_DATE
from fusion_cluster.graph.why.abridged import abridged, abridged_arguments
from fusion_cluster.runtime import Runtime
from fusion_cluster.strict.difference import has_set
from fusion_cluster.verification.comparing import difference_of, digest_of, is_same, normal_form
from fusion_cluster.verification.looks import Answer, CachedKey, Look, Verdict
from fusion_cluster.verification.rehearsal import rehearse

MAX_LAG_S: Final = 60.0
"""Methods whose options let results lag for longer are not verified."""

_MAX_EVENTS: Final = 512
"""How many events of a graph's history are looked at in a round."""

_RUNS: Final = 3
"""How often a body runs, at most, to find out whether it gives another value each time."""


class VerifiedHost(Protocol):
    """A host, as far as verification needs it."""

    graph: Graph
    runtime: Runtime
    peer_id: str

    @property
    def shard_number(self) -> int:
        """The number of the shard that this is, as `owner_of` returns it; -2 if it owns nothing."""
        ...

    def owns(self, key: Key) -> bool:
        """Return whether the key's value is computed here."""
        ...

    def owner_of(self, key: Key) -> int:
        """Return the shard that owns a key; -1 if there is one process, or none is known."""
        ...


def exclusion(options: ComputeOptions) -> str:
    """Return why the values of a method are not verified, in words; "" if they are."""
    if options.auto_invalidation_delay < math.inf:
        return "its values have a time of their own (auto_invalidation_delay)"
    if options.offload is not None:
        return "its body is offloaded: it may be too costly to run again"
    if lag_s(options) > MAX_LAG_S:
        return f"its options let values lag for more than {MAX_LAG_S:g} s"
    return ""


def lag_s(options: ComputeOptions) -> float:
    """Return how long the values of a method may lag behind a change, by its options."""
    return options.invalidation_delay + (options.consolidation_delay or 0.0)


@dataclass(frozen=True, slots=True)
class Changed:
    """A key that a change has reached lately, on the shard that owns it.

    Attributes:
        key: the key.
        by: the cause, in words: which command, or which call.
    """

    key: CachedKey
    by: str


class Verifier:
    """Looks at the cache of one host, and compares values of the keys that it owns.

    Args:
        host: the host.
        name: the name of the member for its peers; None: that of the host.
        timeout_s: how long one computation may take.

    Attributes:
        name: the name of the member.
    """

    def __init__(self, host: VerifiedHost, *, name: str | None = None, timeout_s: float = 10.0) -> None:
        self._host = host
        self._timeout_s = timeout_s
        self.name = host.peer_id if name is None else name

    @property
    def number(self) -> int:
        """The number of the shard that the host is."""
        return self._host.shard_number

    @property
    def runtime(self) -> Runtime:
        """The clock, the random numbers and the tasks of the host."""
        return self._host.runtime

    def exclusions(self) -> dict[str, str]:
        """Return the methods that are not verified, each with the reason."""
        reasons = {name: exclusion(function.options) for name, function in self._host.graph.functions.items()}
        return {name: reason for name, reason in reasons.items() if reason}

    # -- what is cached here -------------------------------------------------------------------------------------------
    def sample(self, count: int) -> list[Look]:
        """Look at cached values that are chosen at random.

        One half are chosen among the values, the other half among the methods: so a method of few values is not
        missed.

        Args:
            count: how many, at most. Values that cannot be compared make them fewer.
        """
        self._host.graph.registry.check_fence()
        parts = [part for function in self._host.graph.functions.values() if (part := _parts(function))]
        if not parts:
            return []
        by_method = list(accumulate(sum(len(function.table) for function in part) for part in parts))
        random = self._host.runtime.entropy.random
        looks: dict[CachedKey, Look] = {}
        for number in range(count):
            if number % 2:
                part = parts[bisect(by_method, random() * by_method[-1])]
            else:
                part = parts[int(random() * len(parts))]
            tables = list(accumulate(len(function.table) for function in part))
            function = part[bisect(tables, random() * tables[-1])]
            node = function.table.sample(int(random() * 2**52))
            look = None if node is None else self._look_at(node)
            if look is not None:
                looks[look.key] = look
        return list(looks.values())

    def everything(self) -> Iterator[Look]:
        """Look at each value that is cached now, one after another, if it is still there when its turn comes."""
        functions = [part for function in self._host.graph.functions.values() for part in _parts(function)]
        for node in [node for function in functions for node in function.nodes()]:
            self._host.graph.registry.check_fence()
            if (look := self._look_at(node)) is not None:
                yield look

    def look(self, keys: Sequence[CachedKey]) -> list[Look]:
        """Look at the values of some keys, as far as they are cached here. Nothing is computed."""
        self._host.graph.registry.check_fence()
        nodes = (self._node(key) for key in keys)
        return [look for node in nodes if node is not None and (look := self._look_at(node)) is not None]

    def serves(self, look: Look) -> bool:
        """Tell whether the very computed of a look would be served here now."""
        self._host.graph.registry.check_fence()
        node = self._node(look.key)
        return node is not None and node._state == CONSISTENT and node.version == look.version

    def changed(self, count: int, after: int) -> tuple[list[Changed], int]:
        """Return keys of this member that commands have invalidated lately, chosen at random.

        Args:
            count: how many, at most.
            after: the number of the last event that is not looked at any more.

        Returns:
            The keys, and the number of the last event that was looked at.
        """
        found: list[tuple[ComputeFunction, Any, Cause]] = []
        for event in self._events(after):
            after, kind, function, table_key, _version, _via, cause, _time_s, _home = event
            if kind == OUT_OF_DATE and isinstance(cause, Cause) and _is_of_command(cause):
                found.append((function, table_key, cause))
        random = self._host.runtime.entropy.random
        chosen: dict[CachedKey, str] = {}
        while found and len(chosen) < count:
            function, table_key, cause = found.pop(int(random() * len(found)))
            if self._host.graph.functions.get(function.name) is not (function.shared or function):
                continue  # a source, or a state
            if exclusion(function.options):
                continue
            arguments = (table_key,) if function.table.is_keyed_by_argument else table_key
            if not self._host.owns(Key(function.service_name, function.method_name, arguments)):
                continue
            encoded = function.method.arguments.encode(arguments)
            chosen[CachedKey(function.name, encoded, function.principal)] = cause.what
        return [Changed(key, by) for key, by in chosen.items()], after

    def _events(self, after: int) -> list[Any]:
        """Return events after a number, at most `_MAX_EVENTS`: the next ones, or the last ones if it is forgotten."""
        history = self._host.graph.registry.history
        if after < 0 or history.event(after) is None:
            return list(history.events()[-_MAX_EVENTS:])
        return list(
            takewhile(lambda event: event is not None, map(history.event, range(after + 1, after + _MAX_EVENTS)))
        )

    def key_in_words(self, key: CachedKey) -> str:
        """Return a key as people write it: "Products.get(3)"."""
        method = self._host.graph.functions[key.method].method
        return f"{key.method}({abridged_arguments(method.arguments.decode_msgpack(key.arguments))})"

    def _node(self, key: CachedKey) -> Computed[Any] | None:
        function = self._function(key)
        if function is None:
            return None
        node: Computed[Any] | None = function.table.get(
            function.table_key(function.method.arguments.decode_msgpack(key.arguments))
        )
        return node

    def _function(self, key: CachedKey) -> ComputeFunction | None:
        function = self._host.graph.functions.get(key.method)
        if function is None or key.principal is None:
            return function
        return None if function.variants is None else function.variants.get(key.principal)

    def _look_at(self, node: Computed[Any]) -> Look | None:
        function: ComputeFunction = node.function
        if node._state != CONSISTENT or node._failure is not None or not node.has_output or node._expiry is not None:
            return None
        try:
            form = normal_form(function.method, node._value)
            key = CachedKey(function.name, function.method.arguments.encode(node.arguments), function.principal)
        except FusionError:
            return None
        shown = abridged(node._value) if function.principal is None else ""
        owner = self._host.owner_of(node.key)
        return Look(key, self.name, owner, node.version, digest_of(form), shown)

    # -- as the owner --------------------------------------------------------------------------------------------------
    async def answer(self, looks: Sequence[Look]) -> list[Answer]:
        """Compare cached values of keys that this member owns with what their methods return now, one after another."""
        answers: list[Answer] = []
        for look in looks:
            try:
                answers.append(await self._answer(look))
            except FusionError as error:  # the arguments are those of another version of the app
                answers.append(Answer(Verdict.UNREACHABLE, reason=error.message))
        return answers

    async def _answer(self, look: Look) -> Answer:
        function = self._host.graph.functions.get(look.key.method)
        if function is None:
            return Answer(Verdict.UNREACHABLE, reason="its owner does not have the method")
        arguments = function.method.arguments.decode_msgpack(look.key.arguments)
        if not self._host.owns(Key(function.service_name, function.method_name, arguments)):
            return Answer(Verdict.UNREACHABLE, reason="its owner has changed")
        if reason := exclusion(function.options):
            return Answer(Verdict.TIMED, reason=reason)
        allowed_s = lag_s(function.options)
        self._host.graph.registry.check_fence()
        node = self._node(look.key)
        if node is None or node._state != CONSISTENT or node.version != look.version:
            return Answer(Verdict.OUTLIVED, lag_s=allowed_s)
        if (verdict := _without_comparison(node)) is not None:
            return Answer(verdict)
        answer = await self._compared(node, look, allowed_s)
        if answer.verdict.differs and not self.serves(look):
            return Answer(Verdict.OVERTAKEN)
        return answer

    async def _compared(self, node: Computed[Any], look: Look, allowed_s: float) -> Answer:
        function: ComputeFunction = node.function
        method, value, is_shown = function.method, node._value, function.principal is None
        try:
            cached = normal_form(method, value)
        except FusionError as error:
            return Answer(Verdict.UNCOMPARABLE, reason=error.message)
        if digest_of(cached) != look.digest:
            shown = abridged(value) if is_shown else ""
            return Answer(Verdict.REPLICA_DIFFERS, shown)
        forms: list[bytes] = []
        for _ in range(_RUNS):
            try:
                fresh = await rehearse(function, node.arguments, timeout_s=self._timeout_s, runtime=self._host.runtime)
            except TimeoutError:
                return Answer(Verdict.UNCOMPUTED, reason=f"it took longer than {self._timeout_s:g} s")
            except Exception as error:
                return self._failed(error, allowed_s, is_shown=is_shown)
            try:
                form = normal_form(method, fresh)
            except FusionError as error:
                return Answer(Verdict.UNCOMPARABLE, reason=error.message)
            if form == cached or is_same(cached, form, have_sets=has_set(value) or has_set(fresh)):
                return Answer(Verdict.SAME)
            if function.source is not None and is_equal(value, fresh):  # as it is consolidated
                return Answer(Verdict.SAME)
            if form in forms:
                shown = abridged(fresh) if is_shown else ""
                difference = difference_of(cached, fresh) if is_shown else ""
                return Answer(Verdict.STALE, shown, difference, allowed_s)
            forms.append(form)
        return Answer(Verdict.UNSTABLE)

    def _failed(self, error: Exception, allowed_s: float, *, is_shown: bool) -> Answer:
        """Return the answer for a body that raises where a value is cached."""
        try:
            may_pass = not is_memoized(error) or bool(self._host.graph.is_transient(error))
        except BaseException as raised:  # a classifier of users
            reraise_outside(raised)
            may_pass = True
        if may_pass:
            return Answer(Verdict.UNCOMPUTED, reason=type(error).__name__)
        return Answer(Verdict.STALE, in_words(error) if is_shown else type(error).__name__, lag_s=allowed_s)


def _is_of_command(cause: Cause) -> bool:
    """Tell whether a command, of this member or of another one, is the cause."""
    return cause.kind == "command" or (cause.kind == "remote" and cause.what.startswith("command "))


def _parts(function: ComputeFunction) -> list[ComputeFunction]:
    """Return the function, or its variants, as far as there are values to verify."""
    if exclusion(function.options):
        return []
    functions: Iterator[ComputeFunction] | tuple[ComputeFunction]
    functions = (function,) if function.variants is None else iter(list(function.variants.values()))
    return [one for one in functions if len(one.table)]


def _without_comparison(node: Computed[Any]) -> Verdict | None:
    """Return the verdict on a consistent computed that cannot be compared now; None if it can."""
    if isinstance(node._expiry, Expiry):
        return Verdict.TIMED
    if node._expiry is not None:
        return Verdict.PENDING
    if node._failure is not None:
        return Verdict.FAILED
    return None if node.has_output else Verdict.OVERTAKEN
