"""An owner in a process of its own, for tests that stop it or kill it.

`python -m tests.processes.echo_owner PORT EPOCH LEASE_S` starts it.
Answers each read with its arguments, prints the port it listens on, and serves until it is killed or its input ends.
"""

from __future__ import annotations

import asyncio
import sys

from fusion_cluster.link import SessionAcceptor, listen_tcp
from tests.owners import RecordingHandler


async def main(port: int, epoch: int, read_lease_s: float) -> None:
    handler = RecordingHandler(epoch=epoch, echoes=True)
    acceptor = SessionAcceptor(handler, peer_id="owner", secret=b"secret", read_lease_s=read_lease_s)
    listener = await listen_tcp(acceptor, port=port)
    print(listener.address[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await listener.close()
    await acceptor.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
