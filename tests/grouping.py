"""How the tests are shared out among the workers of `pytest -n 2`, without a word in the tests themselves.

A file is one group: what its tests share is made once, in one worker. All tests on Ray are one group, so that one
cluster is started once; all clusters of processes are another, so that two of them never compete. A test is put there
by the fixture it uses (or by the mark `ray`). The long groups begin first, so that no worker is idle at the end.
"""

from __future__ import annotations

import itertools
import os
import re
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling

GROUP_OF_FIXTURE = {"ray_cluster": "ray", "zygote": "processes"}
"""Who uses one of these fixtures, directly or through another, is in this group."""

GROUP_OF_MARK = {"ray": "ray"}

ADDRESS = re.compile(r" at 0x[0-9a-f]+")
SEEN = pytest.StashKey[set[str]]()
HASH_SEED = "PYTHONHASHSEED"

GROUPS = tuple(dict.fromkeys((*GROUP_OF_FIXTURE.values(), *GROUP_OF_MARK.values())))


def pytest_configure(config: pytest.Config) -> None:
    """Let the workers hash alike, so that a test that is named after a set has one name; a seed decides how."""
    if hasattr(config, "workerinput"):
        if config.workerinput.get(HASH_SEED):
            os.environ.pop(HASH_SEED, None)  # the processes that tests start hash as they like
    elif config.getoption("numprocesses", None) and HASH_SEED not in os.environ:
        seed = config.getoption("randomly_seed", 0)
        os.environ[HASH_SEED] = str(seed % 2**32 if isinstance(seed, int) else 0)
        config.pluginmanager.register(_SameHashes(), "same hashes")


class _SameHashes:
    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput[HASH_SEED] = True


def pytest_itemcollected(item: pytest.Item) -> None:
    """Take addresses out of names (`<object object at 0x7f…>`): the workers must agree on what a test is called."""
    if " at 0x" not in item.nodeid:
        return
    seen = item.session.stash.setdefault(SEEN, set())
    node_id = name = ADDRESS.sub("", item.nodeid)
    for number in itertools.count(1):
        if node_id not in seen:
            break
        node_id = f"{name.removesuffix(']')}-{number}]"
    seen.add(node_id)
    rename(item, node_id)


def rename(item: pytest.Item, node_id: str) -> None:
    """Give a test another name; there is no public way, and pytest 9.2 has changed the other."""
    private: Any = item
    if hasattr(item, "_id"):
        private._id = type(private._id).parse(node_id)
    else:
        private._nodeid = node_id
    assert item.nodeid == node_id


def group_of(item: pytest.Item) -> str | None:
    """The group that an item shares with tests of other files; None: that of its file."""
    for fixture in getattr(item, "fixturenames", ()):
        if fixture in GROUP_OF_FIXTURE:
            return GROUP_OF_FIXTURE[fixture]
    return next((group for mark, group in GROUP_OF_MARK.items() if item.get_closest_marker(mark)), None)


def group_in(node_id: str) -> str | None:
    """The group that a worker has appended to a test's name."""
    return next((group for group in GROUPS if node_id.endswith(f"@{group}")), None)


def plain(node_id: str) -> str:
    """A test's name as a person can type it."""
    group = group_in(node_id)
    return node_id if group is None else node_id.removesuffix(f"@{group}")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the long groups first, otherwise keep the order; in a worker, tell the controller each item's group."""
    groups = {item: group_of(item) for item in items}
    slow_files = {item.path for item in items if item.get_closest_marker("slow")}

    def rank(item: pytest.Item) -> int:
        group = groups[item]
        if group is not None:
            return GROUPS.index(group)
        return len(GROUPS) if item.path in slow_files else len(GROUPS) + 1

    items.sort(key=rank)
    for item, group in groups.items():
        if group == "ray":
            item.add_marker("ray")
        if group is not None and hasattr(config, "workerinput"):
            rename(item, f"{item.nodeid}@{group}")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Whatever `--dist` says."""
    from xdist.scheduler import LoadScopeScheduling

    class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return group_in(nodeid) or nodeid.partition("::")[0]

    config.option.loadscopereorder = False  # the order is that of the workers
    return GroupScheduling(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """In the controller, give the tests back their names."""
    if hasattr(report, "node"):
        report.nodeid = plain(report.nodeid)
