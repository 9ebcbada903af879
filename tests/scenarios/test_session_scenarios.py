"""Each script of this folder gives the output that is recorded in it.

After a change that is meant: `REWRITE_SCENARIOS=1 pytest tests/scenarios`, and read the difference.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios.golden import check
from tests.scenarios.session_script import SessionScript

SCRIPTS = sorted(Path(__file__).parent.glob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_the_script_gives_its_recorded_output(path: Path) -> None:
    check(SessionScript(), path)
