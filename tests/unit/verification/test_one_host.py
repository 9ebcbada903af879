"""Verification of one host: finds planted faults, those alone, and leaves no trace."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from fusion_cluster import App, UsageError, VerifyOptions
from fusion_cluster.graph.core.hot_path import dependencies_of
from fusion_cluster.host import LocalHost
from fusion_cluster.middleware import acting_as
from fusion_cluster.testing import VirtualRuntime, run_in_virtual_time
from fusion_cluster.verification import VerificationReport
from fusion_cluster.verification.findings import VIOLATION
from fusion_cluster.verification.looks import Verdict
from fusion_cluster.verification.metrics import VALUES, VIOLATIONS
from tests.apps.warehouse import SHELVES, Halls, Shelves, Store, app, fresh_store, watched_app
from tests.waiting import until

Test = Callable[[LocalHost, Store], Coroutine[Any, Any, None]]


def in_a_virtual_host(test: Test, of: App = app, *, strict: bool = True) -> Callable[[], None]:
    """Run a test with a host and a store, in virtual time."""

    @functools.wraps(test)
    def run() -> None:
        async def main() -> None:
            store = fresh_store()
            async with of.local(runtime=VirtualRuntime(), strict=strict) as host:
                await test(host, store)
                host.graph.validate()

        run_in_virtual_time(main())

    del run.__wrapped__  # pytest would look for fixtures
    return run


def differing(report: VerificationReport) -> list[str]:
    return sorted(violation.key for violation in report.violations)


def skipped(report: VerificationReport, method: str) -> dict[str, int]:
    (found,) = (one for one in report.methods if one.method == method)
    return found.skipped


async def fill(host: LocalHost) -> None:
    shelves, halls = host.service(Shelves), host.service(Halls)
    for shelf in range(SHELVES):
        await shelves.put(shelf, 10 * shelf)
        await shelves.count(shelf)
        await halls.total(shelf)


@in_a_virtual_host
async def test_an_honest_app_has_no_violation(host: LocalHost, store: Store) -> None:
    await fill(host)
    report = await host.verification.run()
    assert report.figure == f"0 of {2 * SHELVES} values differ"
    assert report.members == (host.peer_id,)


@in_a_virtual_host
async def test_a_command_that_forgets_to_invalidate_is_found_and_nothing_else(host: LocalHost, store: Store) -> None:
    await fill(host)
    await host.service(Shelves).forget(3, 7)
    report = await host.verification.run()
    assert differing(report) == ["Shelves.count(3)"], "what is computed from it is as right as it is"
    (violation,) = report.violations
    assert violation.kind == Verdict.STALE
    assert (violation.cached, violation.fresh) == ("30", "7")
    assert "30" in violation.difference
    assert violation.lasted_s >= 5.0
    assert "Shelves.count.invalidate" in violation.advice


@in_a_virtual_host
async def test_a_row_that_is_changed_behind_the_back_is_found_by_a_sample_too(host: LocalHost, store: Store) -> None:
    await fill(host)
    store.rows[5] = 1
    report = await host.verification.run(20.0, VerifyOptions(rate=100))
    assert differing(report) == ["Shelves.count(5)"]
    assert report.violation_count == 1, "it is told once"
    assert report.compared > 500


@in_a_virtual_host
async def test_a_row_that_is_gone_is_found(host: LocalHost, store: Store) -> None:
    await fill(host)
    store.rows[5] = -1
    (violation,) = (await host.verification.run()).violations
    assert violation.fresh == "ValueError: no shelf 5"


@in_a_virtual_host
async def test_nothing_of_a_verification_stays_in_the_graph(host: LocalHost, store: Store) -> None:
    await fill(host)
    graph = host.graph
    before = graph.stats, {node: set(dependencies_of(node)) for node in graph.nodes()}, graph.registry.history.events()
    runs = store.runs["count"]
    await host.verification.run()
    assert store.runs["count"] == runs + SHELVES, "each was computed once more"
    after = graph.stats, {node: set(dependencies_of(node)) for node in graph.nodes()}, graph.registry.history.events()
    assert after[1:] == before[1:]
    assert (after[0].nodes, after[0].computations, after[0].invalidations) == (
        before[0].nodes,
        before[0].computations,
        before[0].invalidations,
    )


@in_a_virtual_host
async def test_what_has_a_time_of_its_own_or_runs_elsewhere_is_left_out_and_that_is_said(
    host: LocalHost, store: Store
) -> None:
    shelves = host.service(Shelves)
    await shelves.hourly(1), await shelves.heavy(1), await shelves.brief(1)
    store.rows[1] = 5
    report = await host.verification.run()
    assert differing(report) == []
    assert "auto_invalidation_delay" in report.excluded["Shelves.hourly"]
    assert "offloaded" in report.excluded["Shelves.heavy"]
    assert store.runs["heavy"] == 1
    assert report.compared == 0, "brief() has said for how long it stands"


@in_a_virtual_host
async def test_a_value_may_lag_by_the_delay_of_its_method_and_no_longer(host: LocalHost, store: Store) -> None:
    shelves = host.service(Shelves)
    await shelves.lagging(1)
    await shelves.put(1, 5)
    assert await shelves.lagging(1) == 0
    assert (await host.verification.run()).compared == 0, "its invalidation waits"
    await asyncio.sleep(11)
    assert await shelves.lagging(1) == 5
    await shelves.forget(1, 6)
    (violation,) = (await host.verification.run()).violations
    assert violation.lasted_s >= 15.0


@in_a_virtual_host
async def test_a_consolidated_value_is_compared_as_its_method_compares(host: LocalHost, store: Store) -> None:
    shelves = host.service(Shelves)
    await shelves.rough(1)
    assert (await host.verification.run()).figure == "0 of 1 values differ"
    store.rows[1] = 99
    assert differing(await host.verification.run()) == ["Shelves.rough(1)"]


@in_a_virtual_host
async def test_an_order_that_means_nothing_is_no_difference(host: LocalHost, store: Store) -> None:
    shelves = host.service(Shelves)
    store.tags[1] = {"tea", "rice", "salt", "oil"}
    await shelves.tags(1), await shelves.by_tag(1)
    assert (await host.verification.run()).figure == "0 of 2 values differ"
    store.tags[1].add("sugar")
    assert differing(await host.verification.run()) == ["Shelves.by_tag(1)", "Shelves.tags(1)"]


@in_a_virtual_host
async def test_a_method_that_gives_another_value_each_time_is_named_and_not_blamed(
    host: LocalHost, store: Store
) -> None:
    await host.service(Shelves).number(1)
    report = await host.verification.run()
    assert differing(report) == []
    assert skipped(report, "Shelves.number") == {"differs each time": 1}


@in_a_virtual_host
async def test_a_database_that_is_away_makes_no_violation(host: LocalHost, store: Store) -> None:
    await host.service(Shelves).count(1)
    store.is_away = True
    report = await host.verification.run()
    assert differing(report) == []
    assert skipped(report, "Shelves.count") == {"could not be computed": 1}


@in_a_virtual_host
async def test_a_body_that_takes_too_long_is_given_up(host: LocalHost, store: Store) -> None:
    await host.service(Shelves).slow(1)
    store.gate.clear()
    report = await host.verification.run()
    assert skipped(report, "Shelves.slow") == {"could not be computed": 1}


@in_a_virtual_host
async def test_a_cached_error_is_not_compared(host: LocalHost, store: Store) -> None:
    store.rows[1] = -1
    with pytest.raises(ValueError, match="no shelf"):
        await host.service(Shelves).count(1)
    store.rows[1] = 1
    assert (await host.verification.run()).compared == 0


@in_a_virtual_host
async def test_a_value_that_is_invalidated_while_it_is_compared_is_no_violation(host: LocalHost, store: Store) -> None:
    shelves = host.service(Shelves)
    await shelves.slow(1)
    store.gate.clear()
    store.rows[1] = 5
    task = asyncio.create_task(host.verification.run())
    await until(lambda: store.waiting == 2)
    await shelves.put(1, 5)
    store.gate.set()
    report = await task
    assert differing(report) == []
    assert report.seconds < 5.0, "nobody waited for the bound"


@in_a_virtual_host
async def test_an_invalidation_that_comes_within_the_bound_is_late(host: LocalHost, store: Store) -> None:
    shelves = host.service(Shelves)
    await shelves.count(1)
    store.rows[1] = 5
    task = asyncio.create_task(host.verification.run())
    await asyncio.sleep(4)
    await shelves.count.invalidate(1)
    report = await task
    assert [(method.compared, method.late, method.violations) for method in report.methods] == [(1, 1, 0)]


@in_a_virtual_host
async def test_principals_are_never_compared_with_each_other_and_their_values_are_not_shown(
    host: LocalHost, store: Store
) -> None:
    shelves = host.service(Shelves)
    for name in ("ann", "bob", None):
        with acting_as(name):
            assert await shelves.mine(1) == f"{name} has 0"
    assert (await host.verification.run()).figure == "0 of 3 values differ"
    store.rows[1] = 5
    with acting_as("eve"):
        report = await host.verification.run()
    assert differing(report) == ["Shelves.mine(1)"] * 3
    texts = [f"{violation} {violation.advice}" for violation in report.violations]
    assert not any(name in text for text in texts for name in ("ann", "bob"))
    assert {(found.cached, found.fresh, found.difference) for found in report.violations} == {("", "", "")}


@in_a_virtual_host
async def test_keys_that_commands_have_changed_are_followed(host: LocalHost, store: Store) -> None:
    shelves = host.service(Shelves)
    await fill(host)
    for shelf in range(3):
        await shelves.put(shelf, 1)
        await shelves.count(shelf)
    await shelves.forget(1, 2)
    report = await host.verification.run(0.0, VerifyOptions(rate=400))
    assert report.commands >= 3
    assert differing(report) == ["Shelves.count(1)"]
    assert report.violations[0].command.startswith("command Shelves.put(1, 1)")


def test_a_monitor_counts_and_logs_what_it_finds(caplog: pytest.LogCaptureFixture) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    watched = App("watched", services=[Shelves, Halls], verify=VerifyOptions(rate=10, meter_provider=provider))

    async def test(host: LocalHost, store: Store) -> None:
        await host.service(Shelves).count(1)
        await asyncio.sleep(60)
        assert not caplog.records
        store.rows[1] = 5
        await asyncio.sleep(60)

    with caplog.at_level(logging.ERROR):
        in_a_virtual_host(test, watched)()
    (record,) = caplog.records
    assert "Shelves.count(1)" in record.getMessage()
    assert "0 is cached, and 5 is right" in record.getMessage()
    points = {
        (metric.name, dict(point.attributes or {})["fusion_cluster.outcome"]): point.value  # type: ignore[union-attr]
        for resource in reader.get_metrics_data().resource_metrics  # type: ignore[union-attr]
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }
    assert points[VIOLATIONS, VIOLATION] == 1
    assert points[VALUES, "same"] > 100
    provider.shutdown()


def test_no_monitor_runs_unless_the_app_says_so() -> None:
    async def untouched(host: LocalHost, store: Store) -> None:
        await host.service(Shelves).count(1)
        await asyncio.sleep(60)
        assert store.runs["count"] == 1

    async def watched(host: LocalHost, store: Store) -> None:
        await host.service(Shelves).count(1)
        await asyncio.sleep(60)
        assert 200 < store.runs["count"] < 300, "in each of four rounds a second, in which it is compared once"

    in_a_virtual_host(untouched)()
    in_a_virtual_host(watched, watched_app)()


def test_a_host_without_strictness_is_verified_too() -> None:
    async def changed(host: LocalHost, store: Store) -> None:
        items = host.service(Shelves).items
        (await items(1)).append(4)
        (violation,) = (await host.verification.run()).violations
        assert violation.kind == Verdict.STALE

    in_a_virtual_host(changed, strict=False)()


@pytest.mark.parametrize(
    "options", [{"rate": 0}, {"rate": -1}, {"rate": 2000}, {"bound_s": 0}, {"bound_s": -1}, {"timeout_s": 0}]
)
def test_options_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as raised:
        VerifyOptions(**options)
    assert raised.value.field in options


def test_an_app_refuses_what_is_not_options() -> None:
    with pytest.raises(UsageError, match="verify must be"):
        App("odd", services=[Shelves], verify=True)  # type: ignore[arg-type]
