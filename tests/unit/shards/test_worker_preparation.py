"""What a Ray worker is told before it runs a body, and what happens where there is no Ray any more."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import ray

from fusion_cluster import RayTask, WorkerLost
from fusion_cluster.bodies.offload import TaskBody
from fusion_shards.configuration import AppConfiguration
from fusion_shards.ray_offload import RayTasks, WorkerPreparation
from tests.apps.renderers import Renderers


def test_a_worker_imports_from_where_the_members_of_the_app_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["/first", "/python/site-packages"])
    monkeypatch.setenv("FUSION_TEST_KEPT", "old")
    monkeypatch.setenv("FUSION_TEST_SET", "old")
    monkeypatch.chdir("/")
    configuration = AppConfiguration(
        app_path="shop:app",
        app_name="shop",
        namespace="n",
        secret=b"never told to workers",
        sys_path=("/libraries", "/first"),
        folder=str(tmp_path),
        environment={"FUSION_TEST_SET": "new"},
    )
    preparation = WorkerPreparation.of_app(configuration)
    assert "secret" not in repr(preparation)
    for _ in range(2):  # a worker runs one body after the other
        preparation.apply()
    assert sys.path == ["/first", str(tmp_path), "/python/site-packages", "/libraries"]
    assert Path.cwd() == tmp_path
    assert (os.environ["FUSION_TEST_KEPT"], os.environ["FUSION_TEST_SET"]) == ("old", "new")


def test_a_folder_that_a_worker_does_not_have_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    WorkerPreparation(folder="/there/is/none").apply()
    assert Path.cwd() == Path("/")


def test_this_process_passes_on_what_is_named_after_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSION_TEST_SET", "yes")
    monkeypatch.setenv("PRIVATE_KEY", "stays here")
    preparation = WorkerPreparation.of_this_process()
    assert preparation.environment["FUSION_TEST_SET"] == "yes"
    assert "PRIVATE_KEY" not in preparation.environment
    assert preparation.folder == str(Path.cwd())


async def test_where_ray_was_left_no_new_cluster_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(WorkerLost, match=r"Renderers\.rendered .*left its Ray cluster"):
        await RayTasks(WorkerPreparation()).run(RayTask(), TaskBody(Renderers, "rendered", ((1,),)))
