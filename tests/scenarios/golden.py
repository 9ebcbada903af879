"""Golden scenarios: a script of commands, and the recorded output of each block of them.

A script is a row of blocks: commands, a line `----`, what came of them, an empty line. Lines that begin with `#`
before the commands explain.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from fusion_cluster.errors import FusionError

MARK = "----"


class GoldenScript:
    """One run of a script.

    Attributes:
        lines: the output of the block that runs.
        commands: what each command does with the words behind it.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.commands: dict[str, Callable[[list[str]], None]] = {}

    def run(self, script: str) -> str:
        """The script with the output of this run in place of the one it had."""
        out: list[str] = []
        is_output = False
        self.lines = []
        for line in [*script.splitlines(), ""]:
            if line == MARK:
                out += [MARK, *(self.lines or ["nothing"])]
                self.lines = []
                is_output = True
            elif not line:
                is_output = False
                out.append("")
            elif not is_output:
                out.append(line)
                if not line.startswith("#"):
                    self._run(line)
        return "\n".join(out).rstrip("\n") + "\n"

    def _run(self, line: str) -> None:
        command, *words = line.split()
        try:
            self.commands[command](words)
        except FusionError as error:
            self.lines.append(f"{type(error).__name__}: {error}")


def check(script: GoldenScript, path: Path) -> None:
    """Run the script of a file, and compare; with REWRITE_SCENARIOS in the environment, record what comes out."""
    recorded = path.read_text()
    output = script.run(recorded)
    if os.environ.get("REWRITE_SCENARIOS"):
        path.write_text(output)
    else:
        assert output == recorded
