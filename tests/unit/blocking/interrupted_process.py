"""A program that is interrupted while it waits; run by `test_keyboard_interrupt`."""

from __future__ import annotations

import sys
import threading

from fusion_cluster import value_of
from fusion_cluster.blocking import BlockingHost
from fusion_cluster.host import LocalHost
from tests.unit.blocking.till import Till, app


def wait(host: BlockingHost[LocalHost], what: str) -> None:
    till = host.service(Till)
    if what == "read":
        value_of(till.never())
    elif what == "command":
        value_of(till.stuck())
    else:
        for computed in host.changes(till.sum_of, "a"):
            host.host.service(Till).entered.set()
            assert computed.value == 0


def main(what: str) -> None:
    with app.local_blocking() as host:
        inner = host.host.service(Till)

        def tell() -> None:
            inner.entered.wait()
            print("waiting", flush=True)

        threading.Thread(target=tell).start()
        try:
            wait(host, what)
        except KeyboardInterrupt:
            if what != "changes":
                assert inner.cancelled.wait(5), "what was waited for goes on"
            print("interrupted", host.service(Till).sum_of("b"), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
