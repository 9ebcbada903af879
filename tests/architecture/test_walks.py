"""The walks in `docs/design.md` are those that calls make."""

from __future__ import annotations

from tests.architecture.sources import ROOT
from tests.architecture.walks import as_written


def test_the_documentation_has_the_functions_that_calls_pass() -> None:
    walks = as_written()
    written = (ROOT / "docs/design.md").read_text()
    assert f"```text\n{walks}\n```" in written, f"docs/design.md has other walks than these:\n\n{walks}"
