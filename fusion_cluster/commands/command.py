"""`@command`: methods that change data."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import cached_property
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, Generic, Literal, ParamSpec, TypeVar, overload

import xxhash

from fusion_cluster.catalogue.service import ComputeService, Hosting, ServiceMethod, bodies_of
from fusion_cluster.catalogue.signature import Signature
from fusion_cluster.commands.context import WaitsForResult, is_computing, is_nested, running_command
from fusion_cluster.commands.invocation import Invocation
from fusion_cluster.commands.operation import running_operation
from fusion_cluster.errors import UsageError
from fusion_cluster.failures.exits import body_cancelled, body_exited
from fusion_cluster.graph.core.context import running_command_name
from fusion_cluster.runtime.deadline import current_deadline_s

if TYPE_CHECKING:
    from typing import Self

S = TypeVar("S", bound=ComputeService)
P = ParamSpec("P")
T = TypeVar("T")


class CommandSignature(Signature):
    """The signature of a command: its arguments are not a key, so they travel exactly as they are."""

    is_key: ClassVar[bool] = False


class BoundCommand(Generic[P, T]):
    """A command of a service that lives in a host: what `service.method` is.

    Attributes:
        name: "Products.set_price".
        service_name: "Products".
        method_name: "set_price".
        signature: its parameters and its result.
        barrier: its return waits until no replica serves a value that depended on the old data.
        hosting: where the service lives.
        written: its body, as it is written; None: that is not known.
        call_kind: what middleware is told that it is.
    """

    call_kind: ClassVar[Literal["command", "event"]] = "command"

    def __init__(self, method: Command[P, T], instance: ComputeService, hosting: Hosting, service_name: str) -> None:
        self.method_name = method.name
        self.service_name = service_name
        self.name = f"{service_name}.{method.name}"
        self.signature = method.signature(type(instance))
        self.barrier = method.barrier
        self.hosting = hosting
        self.__doc__ = method.__doc__
        self._shard_group = type(instance).shard_group
        self._shard_by = method.shard_by
        self._body: Callable[..., Coroutine[Any, Any, T]] = bodies_of(instance).wrap(
            _ending_with_result(method.body.__get__(instance)),
            *(self.call_kind, instance, service_name, self.signature),
        )
        self.written: FunctionType | None = method.body if isinstance(method.body, FunctionType) else None

    def __repr__(self) -> str:
        return f"<command {self.name}>"

    @property
    def function(self) -> BoundCommand[P, T]:
        """What hosts and routers know of the command: itself."""
        return self

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        """Run the command on the shard that owns its key.

        Called by another command it runs as a part of that one, where that one runs.

        Raises:
            InvalidArgument: an argument is missing, unknown, given twice or cannot be encoded; `field` names it.
            UsageError: called by a compute method, or in the block of an operation that is no command's.
        """
        if is_computing():
            raise UsageError(f"{self.name} is a command: a compute method cannot call it")
        arguments = self.signature.bind(args, kwargs)
        command = running_command()
        if command is not None and command.hosting is self.hosting:
            return self._as_part_of_another(arguments)
        if running_operation() is not None:
            raise UsageError(f"{self.name} would wait for the operation whose block it is called in: call it outside")
        return self.hosting.execute(self.invocation(arguments))

    def invocation(
        self, arguments: tuple[Any, ...], command_id: str | None = None, *, is_retry: bool = False
    ) -> Invocation:
        """Return a call of this command, with what it inherits from whoever makes it here.

        Args:
            arguments: canonical.
            command_id: made by the caller, the same for each retry; None: there will be none.
            is_retry: the id was sent before, so the command may have run.
        """
        return Invocation(
            *(self.name, arguments, self.call_kind, command_id or "", is_retry), deadline_s=current_deadline_s()
        )

    async def body(self, arguments: tuple[Any, ...]) -> T:
        """The method, with the app's middleware around it, called with canonical arguments.

        It has a copy of its own of those that it could change, for each time that it is run.

        Raises:
            BodyExited: it has raised what is not an `Exception`.
            BodyCancelled: it was cancelled by nobody else than itself.
            Exception: what it has raised.
        """
        token = running_command_name.set(self.name)
        try:
            result: T = await self.signature.call(self._body, self._own(arguments))
        except Exception:
            raise
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise body_cancelled(self.name, error) from error
        except BaseException as error:
            raise body_exited(self.name, error) from error
        finally:
            with suppress(ValueError):  # it is closed by the garbage collector, in some other context
                running_command_name.reset(token)
        return result

    def _own(self, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return self.signature.codec.copy(arguments)

    async def _as_part_of_another(self, arguments: tuple[Any, ...]) -> T:
        token = is_nested.set(True)
        try:
            return await self.body(arguments)
        finally:
            is_nested.reset(token)

    def fingerprint(self, arguments: tuple[Any, ...]) -> bytes:
        """A digest of name and canonical arguments: equal for each retry, whichever process it reaches."""
        return xxhash.xxh3_128_digest(self.name.encode() + b"\0" + self.signature.codec.encode_as_key(arguments))

    @property
    def returns_nothing(self) -> bool:
        """Whether it is declared to return None."""
        return self.signature.result_type in (None, type(None))

    def turn_key(self, arguments: tuple[Any, ...]) -> tuple[str, bytes]:
        """What commands have in common that do not interleave: the shard group and the encoded shard key."""
        if self._shard_index is None:
            return self._shard_group, b""
        return self._shard_group, self.signature.codec.encode_one(self._shard_index, arguments)

    @cached_property
    def _shard_index(self) -> int | None:
        names = self.signature.parameter_names
        return names.index(self._shard_by) if self._shard_by is not None else 0 if names else None


def _ending_with_result(body: Callable[..., Coroutine[Any, Any, T]]) -> Callable[..., Coroutine[Any, Any, T]]:
    """The body, and after it the commit of an operation that waits for the result."""

    @functools.wraps(body)
    async def run(*args: Any, **kwargs: Any) -> T:
        try:
            result = await body(*args, **kwargs)
        except BaseException:
            if (waiting := _waiting()) is not None:  # the expression behind the block has failed
                await waiting.end()
            raise
        if (waiting := _waiting()) is not None:
            await waiting.end_with(result)
        return result

    return run


def _waiting() -> WaitsForResult | None:
    command = running_command()
    if command is None or command.waiting is None:
        return None
    waiting, command.waiting = command.waiting, None
    return waiting


class Command(ServiceMethod, Generic[P, T]):
    """The descriptor that `@command` leaves in a service class.

    Attributes:
        barrier: see `command`.
        shard_by: name of the parameter that decides on which shard it runs; None: the first.
    """

    decorator: ClassVar[str] = "command"

    def __init__(
        self, body: Callable[..., Coroutine[Any, Any, T]], *, barrier: bool = True, shard_by: str | None = None
    ) -> None:
        super().__init__(body)
        self.barrier = barrier
        self.shard_by = shard_by
        self._of_owner: dict[type, CommandSignature] = {}
        self._declared = CommandSignature(body, body.__qualname__)
        if shard_by is not None and shard_by not in self._declared.parameter_names:
            raise UsageError(f"{body.__qualname__} has no parameter {shard_by!r} to shard by", field="shard_by")

    def signature(self, owner: type[ComputeService]) -> Signature:
        """Return the command's signature as a member of the service class `owner`."""
        signature = self._of_owner.get(owner)
        if signature is None:
            signature = self._of_owner[owner] = CommandSignature(self.body, f"{owner.service_name}.{self.name}")
        return signature

    def bind(self, instance: ComputeService, hosting: Hosting, service_name: str) -> BoundCommand[P, T]:
        """Return what `instance.<name>` is once `instance` is attached to `hosting`."""
        return BoundCommand(self, instance, hosting, service_name)

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: type | None = None) -> Self: ...
        @overload
        def __get__(self, instance: object, owner: type | None = None) -> BoundCommand[P, T]: ...
        def __get__(self, instance: object | None, owner: type | None = None) -> Any: ...


@overload
def command(body: Callable[Concatenate[S, P], Coroutine[Any, Any, T]], /) -> Command[P, T]: ...
@overload
def command(
    *, barrier: bool = True, shard_by: str | None = None
) -> Callable[[Callable[Concatenate[S, P], Coroutine[Any, Any, T]]], Command[P, T]]: ...
def command(
    body: Callable[..., Coroutine[Any, Any, Any]] | None = None, /, *, barrier: bool = True, shard_by: str | None = None
) -> Any:
    """Make an `async def` method of a service a command: it changes data, and runs on the shard that owns its key.

    Commands of one key (the service's `shard_group` and the first argument) run one after the other. What a command
    invalidates is out of date everywhere before it returns.

    Args:
        body: the method.
        barrier: False lets it return as soon as the owners of what it invalidates know, before all replicas do.
        shard_by: name of the parameter that takes the place of the first argument in the key.

    Raises:
        UsageError: not an `async def`, `*args` or `**kwargs`, or no parameter called `shard_by`.
    """
    if body is not None:
        return Command(body)
    return lambda body: Command(body, barrier=barrier, shard_by=shard_by)
