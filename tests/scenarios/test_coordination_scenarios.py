"""Each script of the folder `coordination` gives the output that is recorded in it.

After a change that is meant: `REWRITE_SCENARIOS=1 pytest tests/scenarios`, and read the difference.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios.coordination_script import CoordinationScript
from tests.scenarios.golden import check

SCRIPTS = sorted((Path(__file__).parent / "coordination").glob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_the_script_gives_its_recorded_output(path: Path) -> None:
    check(CoordinationScript(), path)
