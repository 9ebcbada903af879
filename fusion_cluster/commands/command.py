"""`@command`: methods that change data."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

from fusion_cluster.catalogue.method import AsyncBody, Method, MethodKind, ShardBy
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.catalogue.service_method import ServiceMethod
from fusion_cluster.catalogue.signature import Signature
from fusion_cluster.commands.context import WaitsForResult, is_computing, is_nested, running_command
from fusion_cluster.commands.invocation import Invocation
from fusion_cluster.commands.nesting import callers, open_call
from fusion_cluster.commands.operation import running_operation
from fusion_cluster.errors import UsageError
from fusion_cluster.failures.exits import body_cancelled, body_exited
from fusion_cluster.graph.core.context import running_command_name
from fusion_cluster.runtime import is_being_cancelled
from fusion_cluster.runtime.baggage import current_baggage
from fusion_cluster.runtime.deadline import current_deadline_s

if TYPE_CHECKING:
    from typing import Self

S = TypeVar("S", bound=ComputeService)
P = ParamSpec("P")
T = TypeVar("T")


class CommandSignature(Signature):
    """The signature of a command: its arguments are not a key, so they travel exactly as they are."""

    is_key: ClassVar[bool] = False


class CommandHosting(Protocol):
    """The hosting that commands are attached to: it runs each on the shard that owns its key."""

    def execute(self, invocation: Invocation) -> Coroutine[Any, Any, Any]:
        """Return the coroutine that runs a command on the shard that owns its key."""
        ...


class BoundCommand(Generic[P, T]):
    """A command of a service that lives in a host: the value of `service.method`.

    Attributes:
        method: its entry in the catalogue of its app.
        name: "Products.set_price".
        signature: its parameters and its result.
        hosting: where the service lives.
        written: its body, as it is written; None: not known.
    """

    def __init__(self, method: Method, descriptor: Command[P, T], hosting: CommandHosting, body: AsyncBody) -> None:
        self.method = method
        self.name = method.name
        self.signature = method.signature
        self.hosting = hosting
        self.__doc__ = descriptor.__doc__
        self._body: Callable[..., Coroutine[Any, Any, T]] = body
        self.written: FunctionType | None = descriptor.body if isinstance(descriptor.body, FunctionType) else None

    def __repr__(self) -> str:
        return f"<command {self.name}>"

    @property
    def function(self) -> BoundCommand[P, T]:
        """Return the command itself, for hosts and routers."""
        return self

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        """Run the command on the shard that owns its key.

        A command that another command calls runs as a part of that command, in the same process.

        Raises:
            InvalidArgument: an argument is missing, unknown, given twice or cannot be encoded; `field` names it.
            UsageError: called by a compute method, or in the block of an operation outside of a command.
            CircularDependencyError: it is called, with the same arguments, by a command that is a part of it; or it
                would wait for its turn until one of its callers has ended.
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
        """Return a call of this command, with the deadline and baggage of its caller here.

        Args:
            arguments: canonical.
            command_id: made by the caller, the same for each retry; None: there will be no retry.
            is_retry: the id was sent before, so the command may have run.
        """
        return Invocation(
            *(self.name, arguments, self.method.kind, command_id or "", is_retry),
            deadline_s=current_deadline_s(),
            baggage=current_baggage.get(),
            callers=callers(),
        )

    async def body(self, arguments: tuple[Any, ...]) -> T:
        """Run the method, with the app's middleware around it, with canonical arguments.

        Each run gets its own copy of the arguments that it could change.

        Raises:
            CircularDependencyError: it would be a part of itself.
            BodyExited: it has raised something that is not an `Exception`.
            BodyCancelled: it was cancelled by itself, not from outside.
            Exception: the error that it has raised.
        """
        token = running_command_name.set(self.name)
        try:
            with open_call(self.method, arguments):
                result: T = await self.signature.call(self._body, self._own(arguments))
        except Exception:
            raise
        except asyncio.CancelledError as error:
            if is_being_cancelled():
                raise
            raise body_cancelled(self.name, error) from error
        except BaseException as error:
            raise body_exited(self.name, error) from error
        finally:
            try:  # noqa: SIM105 - `suppress` costs more than the rest
                running_command_name.reset(token)
            except ValueError:  # the garbage collector closes it, in another context
                pass
        return result

    def _own(self, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return self.method.arguments.copy(arguments)

    async def _as_part_of_another(self, arguments: tuple[Any, ...]) -> T:
        token = is_nested.set(True)
        try:
            return await self.body(arguments)
        finally:
            is_nested.reset(token)


def _ending_with_result(body: Callable[..., Coroutine[Any, Any, T]]) -> Callable[..., Coroutine[Any, Any, T]]:
    """Return the body, followed by the commit of an operation that waits for the result."""

    @functools.wraps(body)
    async def run(*args: Any, **kwargs: Any) -> T:
        try:
            result = await body(*args, **kwargs)
        except BaseException:
            if (waiting := _waiting()) is not None:  # the expression after the block has failed
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
        shard_by: decides on which shard it runs: a parameter's name, or a function of the arguments; None: the first
            argument.
    """

    kind: ClassVar[MethodKind] = "command"
    decorator: ClassVar[str] = "command"
    signature_class: ClassVar[type[Signature]] = CommandSignature

    def __init__(
        self, body: Callable[..., Coroutine[Any, Any, T]], *, barrier: bool = True, shard_by: ShardBy | None = None
    ) -> None:
        super().__init__(body)
        self.barrier = barrier
        self.shard_by = self.require_shard_by(shard_by)

    def completed(self, body: AsyncBody) -> AsyncBody:
        """Return the body, followed by the commit of an operation that waits for the result."""
        return _ending_with_result(body)

    def bind(self, method: Method, instance: Any, hosting: CommandHosting, body: AsyncBody) -> BoundCommand[P, T]:
        """Return what `instance.<name>` is once `instance` is attached to `hosting`."""
        return BoundCommand(method, self, hosting, body)

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
    *, barrier: bool = True, shard_by: ShardBy | None = None
) -> Callable[[Callable[Concatenate[S, P], Coroutine[Any, Any, T]]], Command[P, T]]: ...
def command(
    body: Callable[..., Coroutine[Any, Any, Any]] | None = None,
    /,
    *,
    barrier: bool = True,
    shard_by: ShardBy | None = None,
) -> Any:
    """Make an `async def` method of a service a command: it changes data, and runs on the shard that owns its key.

    Commands of one key (the service's `shard_group` and the first argument) run one after the other. The keys that a
    command invalidates are out of date everywhere before it returns.

    Args:
        body: the method.
        barrier: False lets it return as soon as the owners of the invalidated keys have applied it, before all replicas
            have.
        shard_by: takes the place of the first argument in the key: a parameter's name, or a function of the
            arguments.

    Raises:
        UsageError: the method is not an `async def`, it has `*args` or `**kwargs`, or no parameter is called
            `shard_by`.
    """
    if body is not None:
        return Command(body)
    return lambda body: Command(body, barrier=barrier, shard_by=shard_by)
