"""A read by a second process: `fusion-cluster call`, as anybody may type it."""

from __future__ import annotations

import asyncio
import shlex
import sys
from pathlib import Path

from examples.flights.show.snapshot import OutsideRead
from fusion_cluster.errors import ShardUnavailable

TIMEOUT_S = 30.0


async def read_outside(address: str, method: str, *arguments: str) -> OutsideRead:
    """Run `fusion-cluster call` against the gateway.

    Args:
        address: of the gateway.
        method: "Airports.outbound".
        arguments: in order, as typed.

    Raises:
        ShardUnavailable: it failed; the message is what it printed.
    """
    words = ["call", method, *arguments, "--address", address]
    process = await asyncio.create_subprocess_exec(
        *_program(),
        *words,
        "--json",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, complaint = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
    except BaseException:
        if process.returncode is None:
            process.kill()
            await process.wait()
        raise
    if process.returncode != 0:
        raise ShardUnavailable(f"fusion-cluster {shlex.join(words)} failed: {complaint.decode().strip()}")
    return OutsideRead(f"fusion-cluster {shlex.join(words)}", output.decode().strip())


def _program() -> list[str]:
    """The command beside this Python; without it the same by its module."""
    script = Path(sys.executable).with_name("fusion-cluster")
    if script.exists():
        return [str(script)]
    return [sys.executable, "-c", "import sys; from fusion_cluster.cli import main; sys.exit(main())"]
