"""`offload=RayTask(...)` on a real Ray cluster: from an app in this process, and from shards."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fusion_cluster import (
    BodyExited,
    ComputeService,
    RayTask,
    RemoteError,
    UsageError,
    WorkerLost,
    command,
    compute_method,
    value_of,
)
from fusion_cluster.app import App
from fusion_cluster.blocking import blocking
from fusion_shards.launch import launch
from tests.apps.renderers import AwkwardError, Renderers, app
from tests.waiting import until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]

WAIT_S = 30.0


@pytest.fixture
async def renderers(ray_cluster: str) -> AsyncIterator[Renderers]:
    async with app.local() as host:
        assert host.bodies.task_runner is not None
        yield host.service(Renderers)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


async def test_bodies_run_in_other_processes_and_are_cached_and_tracked(renderers: Renderers) -> None:
    assert await renderers.process("a") != os.getpid()
    assert await renderers.process_async("a") != os.getpid()
    page = await renderers.page(("one", "three")).update()
    assert page.value == "3px 5px"
    rendered = renderers.rendered((3, 5))
    assert rendered.is_consistent
    renderers.numbers.number.invalidate("one")
    assert not page.is_consistent
    assert rendered.is_consistent  # its arguments are what it depends on


async def test_many_at_once(renderers: Renderers) -> None:
    pids = await asyncio.gather(*(renderers.process(str(number)) for number in range(12)))
    assert os.getpid() not in pids


async def test_an_error_comes_back_as_itself_with_its_traceback(renderers: Renderers) -> None:
    with pytest.raises(ValueError, match="no such page") as caught:
        await renderers.fails("value")
    assert type(caught.value) is ValueError
    (note,) = caught.value.__notes__
    assert "in fails" in note
    with pytest.raises(KeyError):
        await renderers.fails("key")
    with pytest.raises(ValueError, match="no such page") as again:
        await renderers.fails("value")
    assert again.value is not caught.value
    assert again.value.__notes__ == [note]


async def test_an_error_that_cannot_be_made_again_keeps_its_name_and_text(renderers: Renderers) -> None:
    with pytest.raises(RemoteError, match="7: ink") as caught:
        await renderers.fails("awkward")
    assert caught.value.error_type == "AwkwardError"
    assert isinstance(caught.value, AwkwardError)


async def test_a_body_that_exits_ends_no_worker(renderers: Renderers) -> None:
    with pytest.raises(BodyExited, match=r"Renderers.fails raised SystemExit: 3"):
        await renderers.fails("exit")


async def test_a_body_that_cancels_itself_is_not_kept(renderers: Renderers) -> None:
    computed = renderers.gives_up()
    with pytest.raises(asyncio.CancelledError):
        await computed
    assert not computed.has_output


async def test_what_cannot_be_sent_back_is_a_usage_error(renderers: Renderers) -> None:
    with pytest.raises(UsageError, match=r"Renderers.unsendable"):
        await renderers.unsendable()


async def test_a_dependency_inside_is_a_usage_error_that_says_what_to_do(renderers: Renderers) -> None:
    with pytest.raises(UsageError, match="pass them as arguments"):
        await renderers.reads("a")


async def test_a_crash_of_the_worker_is_transient_and_computed_anew(renderers: Renderers, tmp_path: Path) -> None:
    mark = str(tmp_path / "killed")
    computed = await renderers.killed_once(mark).update()
    assert isinstance(computed.error, WorkerLost)
    assert computed.error.is_transient
    assert computed.is_consistent
    async with asyncio.timeout(WAIT_S):
        await computed.when_invalidated()
        assert await renderers.killed_once(mark) == "survived"


async def test_cancelling_the_computation_interrupts_the_task(renderers: Renderers, tmp_path: Path) -> None:
    started, ended = tmp_path / "started", tmp_path / "ended"
    caller = asyncio.ensure_future(renderers.interrupted(str(started), str(ended)).update())
    await until(lambda: started.exists() and started.read_text(), timeout_s=WAIT_S)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await until(ended.exists, timeout_s=WAIT_S)


async def test_a_task_that_does_not_heed_is_killed(renderers: Renderers, tmp_path: Path) -> None:
    started = tmp_path / "started"
    caller = asyncio.ensure_future(renderers.stubborn(str(started)).update())
    await until(lambda: started.exists() and started.read_text(), timeout_s=WAIT_S)
    pid = int(started.read_text())
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await until(lambda: not is_alive(pid), timeout_s=WAIT_S)


async def test_a_task_does_not_outlive_its_host(ray_cluster: str, tmp_path: Path) -> None:
    started, ended = tmp_path / "started", tmp_path / "ended"
    async with app.local() as host:
        computed = host.service(Renderers).interrupted(str(started), str(ended))
        caller = asyncio.ensure_future(computed.update())
        await until(lambda: started.exists() and started.read_text(), timeout_s=WAIT_S)
    with pytest.raises(UsageError, match="closed"):
        await caller
    await until(ended.exists, timeout_s=WAIT_S)


async def test_a_task_waits_until_its_resources_are_there(renderers: Renderers) -> None:
    caller = asyncio.ensure_future(renderers.with_resource().update())
    assert await renderers.rendered((1,)) == "1px"
    assert not caller.done()  # no host has a renderer
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller


async def test_a_service_that_workers_cannot_import_is_sent_by_value(ray_cluster: str) -> None:
    class Local(ComputeService):
        @compute_method(offload=RayTask(num_cpus=0.5))
        def square(self, number: int) -> int:
            return number * self.itself(number)

        def itself(self, number: int) -> int:
            return number

        @command
        async def nothing(self) -> None: ...

    class Derived(Local):
        def itself(self, number: int) -> int:
            return super().itself(number) + 1

    async with App("local", services=[Local, Derived]).local() as host:
        assert await host.service(Local).square(12) == 144
        assert await host.service(Derived).square(12) == 156


async def test_shards_run_bodies_as_ray_tasks(ray_cluster: str, tmp_path: Path) -> None:
    async with await launch("tests.apps.renderers:app", shards=2, gateways=0), app.cluster() as cluster:
        renderers = cluster.service(Renderers)
        async with asyncio.timeout(WAIT_S):
            assert await renderers.page(("one", "three")) == "3px 5px"
            shard, worker = await renderers.own_process("a"), await renderers.process("a")
            assert len({shard, worker, os.getpid()}) == 3
            with pytest.raises(ValueError, match="no such page"):
                await renderers.fails("value")
            with pytest.raises(WorkerLost):
                await renderers.killed_once(str(tmp_path / "killed"))


def test_code_without_an_event_loop_calls_shards(ray_cluster: str) -> None:
    launched = asyncio.run(launch("tests.apps.renderers:app", shards=2, gateways=0))
    try:
        with blocking(app.cluster(), timeout_s=WAIT_S) as cluster:
            renderers = cluster.service(Renderers)
            assert value_of(renderers.page(("one", "three"))) == "3px 5px"
            with ThreadPoolExecutor(4) as pool:
                numbers = pool.map(lambda size: value_of(renderers.numbers.number("x" * size)), range(20))
                assert list(numbers) == list(range(20))
    finally:
        asyncio.run(launched.stop())
