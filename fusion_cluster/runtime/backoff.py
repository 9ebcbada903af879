"""Backoff: the pauses between attempts, which grow, with jitter."""

from __future__ import annotations

from fusion_cluster.runtime.entropy import Entropy


class Backoff:
    """The pauses of one series of attempts.

    Args:
        entropy: for the jitter.
        first_s: the longest that the first pause can be, in seconds.
        longest_s: the longest that any pause can be, in seconds.
        factor: how much longer each pause can be than the one before.
        jitter: a pause is at least this share of what it can be; 1: no jitter.
    """

    __slots__ = ("_entropy", "_factor", "_first_s", "_jitter", "_longest_s", "_next_s")

    def __init__(
        self, entropy: Entropy, *, first_s: float, longest_s: float, factor: float = 2.0, jitter: float = 0.5
    ) -> None:
        self._entropy = entropy
        self._first_s = first_s
        self._longest_s = longest_s
        self._factor = factor
        self._jitter = jitter
        self._next_s = first_s

    def next_s(self, *, least_s: float = 0.0) -> float:
        """Return the next pause, in seconds.

        Args:
            least_s: what somebody else asks for; the pause is never shorter.
        """
        pause_s = self._next_s
        self._next_s = min(self._factor * pause_s, self._longest_s)
        return max(least_s, pause_s * self._entropy.uniform(self._jitter, 1.0))

    def reset(self) -> None:
        """Begin anew: an attempt has succeeded."""
        self._next_s = self._first_s
