"""Who may call which command, and which computations are allowed at all.

A command runs for somebody: the *principal*, whom whoever called it has put into a context variable. A computation runs
for nobody in particular: its result is cached, and the next reader is answered without passing here. So what is decided
about a computation must follow from its key.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Token
from fnmatch import fnmatchcase
from typing import Any, Protocol, TypeVar

from fusion_cluster.catalogue.catalogue import Catalogue
from fusion_cluster.errors import PermissionDenied, UsageError
from fusion_cluster.middleware.call import Call, Next
from fusion_cluster.runtime.baggage import current_principal

R = TypeVar("R")

CommandRule = Callable[[Any, Call], bool | Awaitable[bool]]
"""Tells whether the principal (None where there is none) may have this command."""

ComputationRule = Callable[[Call], bool | Awaitable[bool]]
"""Tells whether there may be a result for this key, whoever asks for it."""


class HasMethods(Protocol):
    """An app, for what it has here: its methods."""

    @property
    def methods(self) -> Catalogue:
        """Its methods, by full name."""
        ...


class acting_as:  # noqa: N801 - used like a function
    """Run a block on behalf of somebody.

    >>> with acting_as(user):
    ...     await products.set_price(3, Decimal("12.30"))
    """

    __slots__ = ("_principal", "_token")

    _token: Token[Any]

    def __init__(self, principal: Any) -> None:
        self._principal = principal

    def __enter__(self) -> None:
        self._token = current_principal.set(self._principal)

    def __exit__(self, *_: object) -> None:
        current_principal.reset(self._token)


def anybody(_principal: Any, _call: Call) -> bool:
    """The rule of a command that everybody may call."""
    return True


def signed_in(principal: Any, _call: Call) -> bool:
    """The rule of a command that everybody may call who is known."""
    return principal is not None


class Authorization:
    """Middleware that asks rules before a body runs, and raises `PermissionDenied` where they say no.

    Rules stand beside patterns of full names, in which `*` stands for anything: "Products.set_price", "Products.*",
    "*.delete_*". The first pattern that matches a method decides. A rule says yes with a true value, and may be
    `async`; what it raises is raised.

    *Commands* are refused unless a rule allows them: a new command is nobody's until somebody has said whose. A command
    that another command calls is asked about like any other; its rule sees `call.is_nested`. The principal travels with
    the command between the members of a cluster, as JSON. From a client outside none is taken: for its commands it is
    None, and whatever the rules need must be among the arguments. A retry of a command that was carried out is given
    the result recorded for it, without passing here.

    *Event handlers* are not asked about: nobody calls them, they follow from a command that was allowed. Whom that was
    for is not known any more: a command that a handler calls is nested, and there is no principal.

    *Computations* are allowed unless a rule refuses them. Only the run of a body passes here: hits do not, nor do
    reads of replicas, nor readers that join a computation. What the reader may see is therefore for whoever
    lets the reader in to decide; here it can be decided what there may be at all. That protects readers from each other
    only where the key names the reader (`Inbox.messages(user_id)`) and it was not the reader who chose the key. The
    refusal is the result for the key: it is cached as errors are, and what the rule has read of compute methods
    (through `call.service`) is a dependency of it, so that it is asked again when that has changed.

    Args:
        commands: pattern → whether the principal may have the command.
        computations: pattern → whether there may be a result.

    Raises:
        UsageError: a rule cannot be called.
    """

    def __init__(
        self,
        commands: Mapping[str, CommandRule],
        *,
        computations: Mapping[str, ComputationRule] | None = None,
    ) -> None:
        self._commands = dict(commands)
        self._computations = dict(computations or {})
        for field, patterns in (("commands", self._commands), ("computations", self._computations)):
            for pattern, rule in patterns.items():
                if not callable(rule):
                    raise UsageError(f"the rule for {pattern!r} is a {type(rule).__name__}, no function", field=field)

    async def __call__(self, call: Call, next: Next, /) -> Any:
        """Let the call through if it is allowed.

        Raises:
            PermissionDenied: it is not.
        """
        if not await self._is_allowed(call):
            raise PermissionDenied(f"{call.name} is not permitted")
        return await next(call)

    async def _is_allowed(self, call: Call) -> bool:
        answer: bool | Awaitable[bool]
        if call.kind == "event":
            return True
        if call.kind == "command":
            command_rule = _first_match(self._commands, call.name)
            answer = command_rule is not None and command_rule(current_principal.get(), call)
        else:
            computation_rule = _first_match(self._computations, call.name)
            answer = computation_rule is None or computation_rule(call)
        if inspect.isawaitable(answer):
            answer = await answer
        return bool(answer)

    def unmatched(self, app: HasMethods) -> list[str]:
        """The patterns that no method of the app matches: misspelled ones. A test may see that there are none."""
        names = {
            kind: [name for name, method in app.methods.items() if method.kind == kind]
            for kind in ("command", "compute")
        }
        return [
            pattern
            for kind, patterns in (("command", self._commands), ("compute", self._computations))
            for pattern in patterns
            if not any(fnmatchcase(name, pattern) for name in names[kind])
        ]


def _first_match(rules: Mapping[str, R], name: str) -> R | None:
    return next((rule for pattern, rule in rules.items() if fnmatchcase(name, pattern)), None)
