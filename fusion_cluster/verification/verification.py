"""The verification of one host: by hand for some time, or by a monitor until the end of the host."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from fusion_cluster.quantities import LONGEST_S, as_number
from fusion_cluster.verification.monitor import Monitor
from fusion_cluster.verification.options import VerifyOptions
from fusion_cluster.verification.peers import ALONE, Peers
from fusion_cluster.verification.report import VerificationReport
from fusion_cluster.verification.verifier import VerifiedHost, Verifier

BY_HAND_RATE: Final = 100.0
"""How many values a second a verification by hand compares, if nothing else is said."""


class Verification:
    """Verifies what one host has cached.

    Args:
        host: the host.
        options: the options of the app; None: no monitor runs.
        app: the name of the app.
    """

    def __init__(self, host: VerifiedHost, options: VerifyOptions | None, *, app: str) -> None:
        self._host = host
        self._options = options
        self._app = app
        self._peers: Peers = ALONE
        self._scope = host.runtime.scope("the freshness monitor")
        self.verifier = Verifier(host, timeout_s=(options or VerifyOptions()).timeout_s)

    def join(self, peers: Peers, name: str | None = None) -> None:
        """Verify together with other members of a cluster.

        Args:
            peers: the other members.
            name: the name by which they know this one; None: that of the host.
        """
        self._peers = peers
        if name is not None:
            self.verifier.name = name

    async def run(self, seconds: float | None = None, options: VerifyOptions | None = None) -> VerificationReport:
        """Compare cached values with what their methods return now: a sample, or all of them.

        Each comparison runs the body of a compute method once more, on the shard that owns the key.

        Args:
            seconds: for how long values are chosen at random. If values differ it takes longer, by the bound. None:
                each value that is cached now is compared once, whatever the rate.
            options: how many values a second, and how long a difference may last; None: the app's, with 100 values a
                second.

        Raises:
            InvalidArgument: `seconds` is not a number, 0 or more, or is more than a hundred years.
        """
        if seconds is not None:
            seconds = as_number("seconds", seconds, most=LONGEST_S)
        options = options or replace(self._options or VerifyOptions(), rate=BY_HAND_RATE)
        monitor = self._monitor(options)
        return await (monitor.run_through() if seconds is None else monitor.run(seconds))

    def start(self, rate: float | None = None) -> None:
        """Verify until `close`, if the app has switched the monitor on, or a rate is given. Violations are logged.

        Args:
            rate: how many values a second, instead of the app's rate; None: the app's.
        """
        options = self._options
        if rate is not None:
            options = replace(options or VerifyOptions(), rate=rate)
        if options is not None:
            self._scope.spawn(self._monitor(options).watch(), name="verify cached values")

    async def close(self) -> None:
        """Stop the monitor."""
        await self._scope.close()

    def _monitor(self, options: VerifyOptions) -> Monitor:
        return Monitor(self.verifier, options, app=self._app, peers=self._peers)
