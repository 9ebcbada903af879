"""Bodies as Ray tasks: runs `@compute_method(offload=RayTask(...))` in a process that has Ray.

Only code and arguments of the cluster's own processes are pickled: the service class, by reference if it can be
imported, and arguments that were decoded and checked before. A worker process prepares itself like the sender: the same
folders to import from, the same current folder, the same variables.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import traceback
from collections.abc import Awaitable
from typing import Any, Final, Self

import msgspec
import ray
from ray import cloudpickle
from ray.exceptions import RayError, RayTaskError, TaskCancelledError

from fusion_cluster.app_import import put_on_path
from fusion_cluster.bodies.offload import TaskBody
from fusion_cluster.catalogue.options import RayTask
from fusion_cluster.errors import UsageError, WorkerLost
from fusion_cluster.failures.exits import as_body_exited, in_words, reraise_outside
from fusion_cluster.runtime import SYSTEM
from fusion_cluster.v1 import session_pb2
from fusion_cluster.wire.error_classes import attributes_of
from fusion_cluster.wire.errors import RemoteTraceback, decode_error, encode_error
from fusion_shards.configuration import AppConfiguration

logger = logging.getLogger(__name__)

CANCEL_GRACE_S: Final = 2.0
"""How long a task may take to end by itself when it is cancelled; then its worker process is killed."""

PASSED_ENVIRONMENT: Final = "FUSION_"


class WorkerPreparation(msgspec.Struct, frozen=True):
    """The settings that a worker process needs to import the app's code.

    Attributes:
        sys_path: folders to import from, besides its own.
        folder: the current folder, if a folder of this name exists.
        environment: variables to set.
    """

    sys_path: tuple[str, ...] = ()
    folder: str = ""
    environment: dict[str, str] = {}

    @classmethod
    def of_this_process(cls) -> Self:
        """Return the settings of this process."""
        passed = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ENVIRONMENT)}
        return cls(tuple(path for path in sys.path if path), os.getcwd(), passed)

    @classmethod
    def of_app(cls, configuration: AppConfiguration) -> Self:
        """Return the settings of the app's members."""
        folder = configuration.folder
        sys_path = (*((folder,) if folder else ()), *configuration.sys_path)
        return cls(sys_path, folder, configuration.environment)

    def apply(self) -> None:
        """Prepare this process, so that it imports from the same files as the app's members."""
        if os.path.isdir(self.folder):
            os.chdir(self.folder)
            put_on_path(self.folder)
        os.environ.update(self.environment)
        sys.path.extend(path for path in self.sys_path if path not in sys.path)


class Failed(msgspec.Struct, frozen=True):
    """The failure of a body in a worker.

    Attributes:
        error: the pickled error; empty: it cannot be restored from a pickle.
        told: the error as a message of the session protocol.
        trace: its traceback, as text.
    """

    error: bytes
    told: bytes
    trace: str


class RayTasks:
    """Runs bodies as Ray tasks (a `graph.TaskRunner`).

    Args:
        preparation: the settings for the worker processes.
    """

    def __init__(self, preparation: WorkerPreparation) -> None:
        self._preparation = preparation
        self._giving_up: set[asyncio.Task[None]] = set()

    async def run(self, task: RayTask, body: TaskBody) -> Any:
        """Run a body on a worker with enough free resources, and wait until there is one.

        Raises:
            WorkerLost: the worker process is gone.
            UsageError: arguments, code or result cannot be pickled.
            Exception: what the body raised.
        """
        if not ray.is_initialized():  # a call would start a new Ray cluster
            raise WorkerLost(f"{body.name} has no worker: this process has left its Ray cluster")
        try:
            pickled = _dumps(body)
        except Exception as error:
            raise UsageError(f"{body.name} cannot be sent to a Ray worker: {error}") from error
        remote: Any = _run_pickled.options(name=body.name, **_options(task))
        reference = remote.remote(self._preparation, pickled)
        try:
            result = await reference
        except asyncio.CancelledError:
            self._give_up(reference)
            raise
        except TaskCancelledError:
            raise asyncio.CancelledError(f"the Ray task of {body.name} was cancelled") from None
        except RayTaskError as error:
            raise _untold(error, body.name) from None
        except RayError as error:
            raise WorkerLost(f"the worker process that ran {body.name} is gone: {_first_line(error)}") from None
        if isinstance(result, Failed):
            raise _unpickled(result)
        return result

    def _give_up(self, reference: Any) -> None:
        giving_up = SYSTEM.create_task(_cancel(reference), name="cancel a Ray task")
        self._giving_up.add(giving_up)
        giving_up.add_done_callback(self._giving_up.discard)


async def _cancel(reference: Any) -> None:
    """Interrupt a task; kill its worker if that does not help.

    It gets its time also if this event loop ends: Ray 2.60 ends the whole process (a failed check, "Tried to
    complete task that was not pending") when a worker is to be killed at the moment in which its task has ended.
    """
    if not ray.is_initialized():
        return
    ray.cancel(reference, force=False)
    has_ended = False
    try:
        has_ended = await _ends(reference)
    except asyncio.CancelledError:
        has_ended = bool(ray.is_initialized() and ray.wait([reference], timeout=CANCEL_GRACE_S)[0])
        raise
    finally:
        if not has_ended and ray.is_initialized():
            ray.cancel(reference, force=True)


async def _ends(reference: Awaitable[Any]) -> bool:
    try:
        await asyncio.wait_for(reference, CANCEL_GRACE_S)
    except TimeoutError:
        return False
    except Exception as error:
        logger.debug("a cancelled Ray task has ended: %r", error)
    return True


def _options(task: RayTask) -> dict[str, Any]:
    """Return the options of a task: Ray does not retry a crash, which is an error that is recomputed after a delay."""
    options: dict[str, Any] = {"num_cpus": task.num_cpus, "num_gpus": task.num_gpus, "max_retries": 0}
    if task.memory_bytes is not None:
        options["memory"] = task.memory_bytes
    if task.resources:
        options["resources"] = dict(task.resources)
    return options


# -- in the worker -----------------------------------------------------------------------------------------------------
@ray.remote
def _run_pickled(preparation: WorkerPreparation, pickled: bytes) -> Any:
    name = "a Ray task"
    try:
        preparation.apply()
        body: TaskBody = cloudpickle.loads(pickled)
        name = body.name
        return body.run()
    except BaseException as error:
        if not isinstance(error, asyncio.CancelledError):
            reraise_outside(error)  # Ray interrupts a task that is cancelled, and ends its workers by a signal
        if not isinstance(error, Exception | asyncio.CancelledError):
            error = as_body_exited(name, error)
        trace = "".join(traceback.format_exception(error))
        told = encode_error(error, for_member=True)
        told.traceback = ""
        return Failed(_pickled(error), told.SerializeToString(), trace)


def _pickled(error: BaseException) -> bytes:
    """Return an error as bytes; empty if it cannot be restored from them."""
    try:
        pickled = _dumps(error)
        if type(cloudpickle.loads(pickled)) is type(error):
            return pickled
    except BaseException as problem:
        reraise_outside(problem)
        logger.debug("a %s cannot be pickled: %s", type(error).__name__, in_words(problem))
    return b""


def _dumps(value: object) -> bytes:
    pickled: bytes = cloudpickle.dumps(value)  # type: ignore[no-untyped-call]
    return pickled


# -- what comes back ---------------------------------------------------------------------------------------------------
def _unpickled(failed: Failed) -> BaseException:
    try:
        error: BaseException | None = cloudpickle.loads(failed.error) if failed.error else None
    except Exception as problem:
        logger.debug("the error of a Ray task cannot be read here: %s", in_words(problem))
        error = None
    if error is None:
        error = decode_error(session_pb2.Error.FromString(failed.told))
    notes = attributes_of(error).setdefault("__notes__", [])  # `add_note` sets an attribute, which may be refused
    notes.append(RemoteTraceback(f"in a Ray worker:\n{failed.trace}"))
    return error


def _untold(error: RayTaskError, name: str) -> Exception:
    """Return the error for a failure outside the body: most likely its result cannot be pickled."""
    return UsageError(f"a Ray worker could not run {name}, or send back what it returned: {error.cause!r}")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
