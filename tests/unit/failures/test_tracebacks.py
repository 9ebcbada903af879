"""What is kept of a cached error's traceback: all that it shows, and nothing that its frames hold."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import traceback
import weakref
from collections.abc import Iterator

import pytest

from fusion_cluster.bodies.attaching import attach
from fusion_cluster.catalogue.service import ComputeService
from fusion_cluster.failures.tracebacks import detached, let_go_of_frames
from fusion_cluster.graph import Graph, GraphHosting, compute_method


class Thing:
    """Something of the caller's."""


def fail(depth: int = 3) -> None:
    thing = Thing()
    if depth:
        (lambda: fail(depth - 1))()
    raise ValueError(str(depth)) if not depth else KeyError(thing)


def failure() -> ValueError:
    with pytest.raises(ValueError, match="0") as caught:
        fail()
    return caught.value


@pytest.fixture
def without_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_it_shows_files_functions_lines_and_columns_as_before() -> None:
    error = failure()
    before = traceback.format_exception(error)
    let_go_of_frames(error)
    assert traceback.format_exception(error) == before
    assert "(lambda: fail(depth - 1))()" in "".join(before)


def test_causes_contexts_and_members_of_groups_are_let_go_of_too() -> None:
    caused = KeyError("a")
    caused.__cause__ = caused.__context__ = failure()
    group = ExceptionGroup("several", [caused, failure()])
    before = traceback.format_exception(group)
    let_go_of_frames(group)
    assert traceback.format_exception(group) == before
    for error in (caused.__cause__, *group.exceptions):
        assert error is not None
        assert all(not frame.f_locals for frame, _ in traceback.walk_tb(error.__traceback__))


def test_an_end_that_is_detached_already_stays_the_same_object() -> None:
    error = failure()
    let_go_of_frames(error)
    kept = error.__traceback__
    assert detached(kept) is kept
    with pytest.raises(ValueError, match="0") as caught:
        raise error
    assert caught.tb is not kept
    let_go_of_frames(error)
    link = error.__traceback__
    while link is not kept:
        assert link is not None
        link = link.tb_next


@pytest.mark.usefixtures("without_collection")
async def test_a_cached_error_keeps_nothing_of_who_called_first(graph: Graph) -> None:
    class Failing(ComputeService):
        @compute_method
        async def get(self) -> int:
            things.append(weakref.ref(thing := Thing()))
            raise ValueError(id(thing))

        @compute_method
        def plain(self) -> int:
            things.append(weakref.ref(thing := Thing()))
            raise ValueError(id(thing))

    async def call(*, plain: bool) -> None:
        thing = Thing()
        things.append(weakref.ref(thing))
        with pytest.raises(ValueError, match=r"\d"):
            await (failing.plain() if plain else failing.get())

    things: list[weakref.ref[Thing]] = []
    failing = Failing()
    attach(failing, GraphHosting(graph))
    for plain in (False, True):
        await call(plain=plain)
        assert failing.get().error is not None
    assert [thing() for thing in things] == [None] * 4


TRACED = """
import sys
from fusion_cluster.failures.tracebacks import let_go_of_frames

def raise_in_a_long_function():
    numbers = [
        1,
        2,
    ]
    if numbers:
        raise ValueError(numbers)
    return numbers[0], numbers[1], [each for each in numbers]

def tracer(frame, event, argument):
    return tracer

sys.settrace(tracer)
for _ in range(200):
    try:
        raise_in_a_long_function()
    except ValueError as error:
        let_go_of_frames(error)
"""


def test_a_debugger_or_a_measurement_of_coverage_may_trace_frames_that_never_ran() -> None:
    """The interpreter writes a line for each instruction that the table of lines speaks of, wherever that is."""
    environment = {**os.environ, "PYTHONMALLOC": "debug"}
    run = subprocess.run([sys.executable, "-c", TRACED], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
