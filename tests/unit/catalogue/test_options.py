"""What `@compute_method` can be told, where it can be told, and who wins."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from fusion_cluster import App, ComputeOptions, ComputeService, RayTask, UsageError, compute_method
from fusion_cluster.bodies.attaching import attach
from fusion_cluster.catalogue.options import DEFAULT_OPTIONS
from fusion_cluster.graph import GraphHosting


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("min_cache_duration", -1),
        ("min_cache_duration", "60"),
        ("min_cache_duration", True),
        ("auto_invalidation_delay", math.nan),
        ("transient_error_delay", -0.1),
        ("error_delay", None),
        ("invalidation_delay", -1),
        ("invalidation_delay", math.inf),
        ("consolidation_delay", -1),
        ("consolidation_delay", math.inf),
        ("consolidation_delay", math.nan),
        ("shard_by", 3),
        ("offload", "process"),
        ("offload", True),
        ("offload", RayTask),
    ],
)
def test_an_option_out_of_its_range_is_refused_by_name(option: str, value: object) -> None:
    make: Any = compute_method
    with pytest.raises(UsageError, match=option) as caught:
        make(**{option: value})
    assert caught.value.field == option


def test_an_unknown_option_is_refused_by_name() -> None:
    make: Any = compute_method
    with pytest.raises(UsageError, match="'min_cache_time'") as caught:
        make(min_cache_time=3)
    assert caught.value.field == "min_cache_time"


@pytest.mark.parametrize(
    ("amounts", "field"),
    [
        ({"num_cpus": -1}, "num_cpus"),
        ({"num_gpus": "1"}, "num_gpus"),
        ({"memory_bytes": -5}, "memory_bytes"),
        ({"resources": {"disk": -1}}, "resources"),
    ],
)
def test_a_ray_task_cannot_ask_for_less_than_nothing(amounts: dict[str, Any], field: str) -> None:
    with pytest.raises(UsageError) as caught:
        RayTask(**amounts)
    assert caught.value.field == field


def test_options_know_what_was_said_also_when_it_is_the_default() -> None:
    options = ComputeOptions(min_cache_duration=0.0, offload=None)
    assert options == DEFAULT_OPTIONS
    assert options.said == {"min_cache_duration", "offload"}
    assert not DEFAULT_OPTIONS.said
    for twin in (copy.copy(options), copy.deepcopy(options), pickle.loads(pickle.dumps(options))):
        assert (twin, twin.said) == (options, options.said)


def test_the_nearer_place_wins_where_it_says_something() -> None:
    near = ComputeOptions(error_delay=30.0, consolidation_delay=None)
    wide = ComputeOptions(error_delay=5.0, consolidation_delay=1.0, min_cache_duration=60.0)
    both = near.over(wide)
    assert (both.error_delay, both.consolidation_delay, both.min_cache_duration) == (30.0, None, 60.0)
    assert both.said == {"error_delay", "consolidation_delay", "min_cache_duration"}
    assert both.transient_error_delay == DEFAULT_OPTIONS.transient_error_delay


class Base(ComputeService):
    compute_defaults = ComputeOptions(min_cache_duration=20.0, error_delay=20.0, invalidation_delay=0.2)

    @compute_method
    async def silent(self) -> int:
        return 1

    @compute_method(min_cache_duration=30.0)
    async def outspoken(self) -> int:
        return 1

    @compute_method(error_delay=30.0)  # its default value, said all the same
    async def stubborn(self) -> int:
        return 1


class Derived(Base):
    compute_defaults = ComputeOptions(error_delay=25.0)


class Plain(ComputeService):
    @compute_method
    async def silent(self) -> int:
        return 1


async def test_the_method_wins_over_the_service_and_the_service_over_the_app() -> None:
    defaults = ComputeOptions(min_cache_duration=10.0, error_delay=10.0, transient_error_delay=10.0)
    app = App("options", services=[Base, Derived, Plain], defaults=defaults)
    async with app.local() as host:
        base, derived, plain = host.service(Base), host.service(Derived), host.service(Plain)
        expected = {
            base.silent: (20.0, 20.0, 10.0, 0.2),
            base.outspoken: (30.0, 20.0, 10.0, 0.2),
            base.stubborn: (20.0, 30.0, 10.0, 0.2),
            derived.silent: (20.0, 25.0, 10.0, 0.2),
            derived.stubborn: (20.0, 30.0, 10.0, 0.2),
            plain.silent: (10.0, 10.0, 10.0, 0.0),
        }
        for method, values in expected.items():
            options = method.function.options
            assert values == (
                options.min_cache_duration,
                options.error_delay,
                options.transient_error_delay,
                options.invalidation_delay,
            ), method.function.name


async def test_a_method_can_stay_on_the_loop_where_its_service_says_thread() -> None:
    class Heavy(ComputeService):
        compute_defaults = ComputeOptions(offload="thread")

        @compute_method
        async def heavy(self) -> int:
            return 1

        @compute_method(offload=None)
        async def light(self) -> int:
            return 1

    service = Heavy()
    attach(service, GraphHosting())
    assert service.heavy.function.options.offload == "thread"
    assert service.light.function.options.offload is None


@pytest.mark.parametrize("bad", [{"error_delay": 3}, ComputeOptions(shard_by="cart_id"), None])
def test_defaults_that_make_no_sense_are_refused_where_they_stand(bad: Any) -> None:
    with pytest.raises(UsageError, match="defaults"):
        App("bad", defaults=bad)
    with pytest.raises(UsageError, match="compute_defaults"):
        type("Bad", (ComputeService,), {"compute_defaults": bad})


def test_an_app_refuses_what_is_no_classifier_and_no_number_of_threads() -> None:
    no_classifier: Any = "transient"
    with pytest.raises(UsageError) as caught:
        App("bad", is_transient=no_classifier)
    assert caught.value.field == "is_transient"
    with pytest.raises(UsageError) as caught:
        App("bad", max_threads=0)
    assert caught.value.field == "max_threads"


def test_an_app_knows_how_many_cpus_its_largest_task_needs() -> None:
    class Tasks(ComputeService):
        compute_defaults = ComputeOptions(offload=RayTask(num_cpus=2))

        @compute_method
        def default(self) -> int:
            return 1

        @compute_method(offload=RayTask(num_cpus=0.5))
        def small(self) -> int:
            return 1

    assert App("tasks", services=[Tasks]).task_cpus == 2
    assert App("none", services=[Plain]).task_cpus == 0


async def test_options_of_the_app_have_their_effect() -> None:
    class Failing(ComputeService):
        @compute_method
        async def get(self) -> int:
            raise ValueError("never kept")

    app = App("effect", services=[Failing], defaults=ComputeOptions(error_delay=0.0))
    async with app.local() as host:
        failing = host.service(Failing)
        first, second = await failing.get().update(), await failing.get().update()
        assert first is not second
        assert isinstance(first.error, ValueError)


def test_shard_by_stands_at_the_method() -> None:
    by: Callable[[int, str], str] = lambda number, name: name  # noqa: E731

    class Sharded(ComputeService):
        @compute_method(shard_by="name")
        async def by_name(self, number: int, name: str) -> int:
            return number

        @compute_method(shard_by=by)
        async def by_function(self, number: int, name: str) -> int:
            return number

    app = App("sharded", services=[Sharded])
    assert app.methods["Sharded.by_name"].shard_by == "name"
    assert app.methods["Sharded.by_function"].shard_by is by
