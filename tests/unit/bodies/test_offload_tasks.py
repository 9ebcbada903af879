"""`offload=RayTask(...)` without Ray: a thread, under the rules of a task; and what a host's task runner is given."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fusion_cluster import App, ComputeService, Database, RayTask, UsageError, WorkerLost, command, compute_method
from fusion_cluster.bodies.attaching import attach
from fusion_cluster.bodies.offload import Bodies, TaskBody
from fusion_cluster.graph import Graph, GraphHosting
from fusion_cluster.state import MutableState
from fusion_cluster.testing import run_in_virtual_time

TIMEOUT_S = 5.0


class Prices(ComputeService):
    @compute_method
    async def price(self, product: str) -> int:
        return len(product)


class Reports(ComputeService):
    prices: Prices

    def __init__(self) -> None:
        self.unit = "EUR"
        self.rate = MutableState(1)

    @compute_method(offload=RayTask())
    def render(self, product: str, *, price: int = 0) -> tuple[str, int]:
        return f"{self.labelled(product)} {price} {self.unit}", threading.get_ident()

    @compute_method(offload=RayTask(num_cpus=0.5))
    async def render_async(self, product: str) -> str:
        await asyncio.sleep(0)
        return await self.labelled_async(product)

    def labelled(self, product: str) -> str:
        return f"<{product}>"

    async def labelled_async(self, product: str) -> str:
        return f"<<{product}>>"

    @compute_method
    async def own(self) -> int:
        return 1

    @command
    async def change(self) -> None: ...

    @compute_method(offload=RayTask())
    def uses(self, what: str) -> Any:
        uses: dict[str, Callable[[], Any]] = {
            "own": lambda: self.own(),
            "peek": lambda: self.own.peek(),
            "service": lambda: self.prices.price("tea"),
            "command": lambda: self.change(),
            "state": lambda: self.rate.value,
            "database": lambda: self.database.session(),
        }
        return uses[what]()

    @compute_method(offload=RayTask())
    async def awaits_own(self) -> Any:
        return await self.own()

    @compute_method(offload=RayTask())
    def misspells(self) -> Any:
        return self.untis  # type: ignore[attr-defined]

    @compute_method(offload=RayTask())
    def sets(self) -> str:
        self.unit = "USD"
        return self.unit


app = App("reports", services=[Prices, Reports])


async def test_without_ray_a_task_runs_in_a_thread() -> None:
    async with app.local() as host:
        reports = host.service(Reports)
        text, thread = await reports.render("tea", price=3)
        assert text == "<tea> 3 EUR"
        assert thread != threading.get_ident()
        assert await reports.render_async("tea") == "<<tea>>"
        assert reports.render("tea", price=3).is_consistent


@pytest.mark.parametrize("what", ["own", "peek", "service", "command", "state", "database"])
async def test_what_would_need_a_host_says_why_not_and_what_to_do(what: str) -> None:
    async with app.local() as host:
        with pytest.raises(UsageError) as caught:
            await host.service(Reports).uses(what)
    for hint in ("Reports.uses", "RayTask", "async compute method", "arguments", "app.cluster()"):
        assert hint in str(caught.value)


async def test_awaiting_a_dependency_in_an_async_task_says_so_too() -> None:
    async with app.local() as host:
        with pytest.raises(UsageError, match="pass them as arguments"):
            await host.service(Reports).awaits_own()


async def test_an_attribute_that_is_nowhere_is_an_attribute_error() -> None:
    async with app.local() as host:
        with pytest.raises(AttributeError, match="untis"):
            await host.service(Reports).misspells()


async def test_a_task_has_an_instance_of_its_own() -> None:
    async with app.local() as host:
        reports = host.service(Reports)
        assert await reports.sets() == "USD"
        assert reports.unit == "EUR"


class Runner:
    """A task runner that a test looks into."""

    def __init__(self, outcome: BaseException | None = None) -> None:
        self.outcome = outcome
        self.given: list[tuple[RayTask, TaskBody]] = []

    async def run(self, task: RayTask, body: TaskBody) -> Any:
        self.given.append((task, body))
        if self.outcome is not None:
            raise self.outcome
        return await asyncio.to_thread(pickle.loads(pickle.dumps(body)).run)


async def test_a_task_runner_gets_code_and_arguments_that_can_be_pickled() -> None:
    async with app.local() as host:
        runner = host.bodies.task_runner = Runner()
        reports = host.service(Reports)
        assert (await reports.render("tea", price=3))[0] == "<tea> 3 EUR"
        assert await reports.render_async("tea") == "<<tea>>"
    (task, body), (task_async, body_async) = runner.given
    assert task == RayTask()
    assert task_async == RayTask(num_cpus=0.5)
    assert body == TaskBody(Reports, "render", ("tea",), {"price": 3})
    assert (body.name, body_async.name) == ("Reports.render", "Reports.render_async")


def test_a_lost_worker_is_computed_anew_after_the_delay_of_transient_errors() -> None:
    async def main() -> None:
        bodies = Bodies()
        bodies.task_runner = Runner(WorkerLost("killed"))
        graph, reports = Graph(), Reports()
        attach(reports, GraphHosting(graph), bodies=bodies)
        computed = await reports.render("tea").update()
        assert isinstance(computed.error, WorkerLost)
        assert computed.is_consistent
        await computed.when_invalidated()
        assert asyncio.get_running_loop().time() == pytest.approx(1.0)
        await graph.close()

    run_in_virtual_time(main())


class Bank(ComputeService):
    @compute_method(offload="thread")
    async def counted(self, number: int) -> int:
        async with self.database.session() as session:
            from sqlalchemy import text

            return int(await session.scalar(text("select 40")) or 0) + number

    @compute_method(offload="thread")
    def plain(self) -> Any:
        return self.database.session()

    @compute_method
    def on_the_loop(self) -> Any:
        return self.database.session()


async def test_an_async_body_in_a_thread_uses_the_database_and_closes_its_connections(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/bank.db")
    bank_app = App("bank", services=[Bank], database=database, max_threads=2)
    async with bank_app.local() as host:
        bank = host.service(Bank)
        assert await asyncio.gather(*(bank.counted(number) for number in range(6))) == list(range(40, 46))
        assert not [loop for _, loop in database._engines if loop is not asyncio.get_running_loop()]


@pytest.mark.parametrize("method", ["plain", "on_the_loop"])
async def test_a_plain_body_is_told_that_it_cannot_use_the_database(tmp_path: Path, method: str) -> None:
    bank_app = App("bank", services=[Bank], database=Database(f"sqlite:///{tmp_path}/bank.db"))
    async with bank_app.local() as host:
        with pytest.raises(UsageError, match=r"cannot use the database.*async def"):
            await getattr(host.service(Bank), method)()
