"""`python -m examples.services` tells all the stories; `... clock` one of them."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from examples.services.stories import STORIES, tell


def main() -> int:
    """Run what the command line says."""
    names = sys.argv[1:] or list(STORIES)
    if unknown := [name for name in names if name not in STORIES]:
        print(f"no story of {unknown[0]!r}; python -m examples.services [{' | '.join(STORIES)}]", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            asyncio.run(tell(name, f"sqlite:///{Path(folder)}/{name}.db", Console()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
