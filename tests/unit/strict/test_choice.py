"""Which hosts are strict."""

import pytest

from fusion_cluster import App, ComputeService, compute_method
from fusion_cluster.errors import UsageError
from fusion_cluster.testing import LocalCluster

ENVIRONMENT = ("FUSION_STRICT", "PYTEST_VERSION", "PYTEST_CURRENT_TEST")


class Nothing(ComputeService):
    @compute_method
    async def nothing(self) -> None: ...


app = App("nothing", [Nothing])


@pytest.mark.parametrize(
    ("environment", "said", "is_strict", "is_cluster_strict"),
    [
        ({}, None, False, True),
        ({}, True, True, True),
        ({}, False, False, False),
        ({"PYTEST_VERSION": "9.0"}, None, True, True),
        ({"PYTEST_CURRENT_TEST": "test_x.py::test_x (call)"}, None, True, True),
        ({"PYTEST_VERSION": "9.0"}, False, False, False),
        ({"PYTEST_VERSION": "9.0", "FUSION_STRICT": "0"}, None, False, False),
        ({"PYTEST_VERSION": "9.0", "FUSION_STRICT": "0"}, True, True, True),
        ({"PYTEST_VERSION": "9.0", "FUSION_STRICT": ""}, None, True, True),
        ({"FUSION_STRICT": "1"}, None, True, True),
        ({"FUSION_STRICT": "1"}, False, False, False),
    ],
)
async def test_the_maker_decides_then_the_environment(
    environment: dict[str, str],
    said: bool | None,
    is_strict: bool,
    is_cluster_strict: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    async with app.local(strict=said) as host:
        assert (host.strict is not None) == is_strict
    async with LocalCluster(app, shards=1, strict=said) as cluster:
        assert (cluster.host.strict is not None) == is_cluster_strict
        assert (cluster.shards[0].host.strict is not None) == is_cluster_strict


async def test_under_pytest_hosts_are_strict() -> None:
    async with app.local() as host:
        assert host.strict is not None


@pytest.mark.parametrize("said", ["yes", 1, "0"])
async def test_what_is_not_a_choice_is_refused(said: bool) -> None:
    with pytest.raises(UsageError, match="strict must be True, False or None"):
        await app.local(strict=said).__aenter__()
    with pytest.raises(UsageError, match="strict must be True, False or None"):
        LocalCluster(app, strict=said)


async def test_a_setting_that_is_not_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSION_STRICT", "yes")
    with pytest.raises(UsageError, match="FUSION_STRICT must be 0 or 1, not 'yes'"):
        await app.local().__aenter__()
