"""Decides who may call which command, and which computations are allowed at all.

A command runs on behalf of the *principal*, which its caller has put into a context variable. A computation runs on
behalf of all its readers: its result is cached, and the next reader gets it without passing here. So a decision about
a computation must follow from its key.
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
"""Returns whether the principal (None without one) may call this command."""

ComputationRule = Callable[[Call], bool | Awaitable[bool]]
"""Returns whether a result for this key may exist at all, for any reader."""


class HasMethods(Protocol):
    """An app, or anything else that has methods."""

    @property
    def methods(self) -> Catalogue:
        """Its methods, by full name."""
        ...


class acting_as:  # noqa: N801 - used like a function
    """Run a block on behalf of a principal.

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
    """Allow the command to every caller, with or without a principal."""
    return True


def signed_in(principal: Any, _call: Call) -> bool:
    """Allow the command to every caller that has a principal."""
    return principal is not None


class Authorization:
    """Middleware that asks rules before a body runs, and raises `PermissionDenied` if a rule refuses.

    Each rule belongs to a pattern of full names, in which `*` matches anything: "Products.set_price", "Products.*",
    "*.delete_*". The first pattern that matches a method decides. A rule allows with a true value. It may be `async`.
    An exception of a rule is raised to the caller.

    *Commands* are refused unless a rule allows them: a new command is closed until a rule opens it. Rules also decide
    about commands that another command calls; there `call.is_nested` is true. The principal travels with the command
    between the members of a cluster, as JSON. From a client outside the cluster, no principal is accepted: for its
    commands the principal is None, and all that the rules need must be among the arguments. A retry of a command that
    has run gets the recorded result, without passing here.

    *Event handlers* always run: they do not have a caller, they follow from a command that was allowed. They run on
    behalf of the principal for whom the event was emitted. So a command that a handler calls is nested, and the rules
    get that principal, as it was then.

    *Computations* are allowed unless a rule refuses them. Only the run of a body passes here. Hits, reads of replicas
    and readers that join a computation do not. So the code that lets a reader in must decide what the reader may see;
    rules here decide which results may exist at all. They protect readers from each other only if the key names the
    reader (`Inbox.messages(user_id)`) and the reader cannot choose the key. A refusal is the result for the key: it is
    cached as errors are. What the rule has read of compute methods (through `call.service`) is a dependency of it, so
    the rule is asked again when that has changed.

    Args:
        commands: pattern → the rule whether the principal may call the command.
        computations: pattern → the rule whether a result may exist.

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
                    raise UsageError(
                        f"the rule for {pattern!r} is a {type(rule).__name__}, not a function", field=field
                    )

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
        """Return the patterns that match no method of the app: they are misspelled. A test can check for that."""
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
