"""Entropy: every random number, and every name that has to be unique."""

from __future__ import annotations

import os
import random
from abc import ABC, abstractmethod
from base64 import urlsafe_b64encode


class Entropy(ABC):
    """A source of random numbers."""

    @abstractmethod
    def random(self) -> float:
        """Return a number from 0 to 1, without 1. Not for secrets."""

    @abstractmethod
    def token_bytes(self, size: int) -> bytes:
        """Return bytes that nobody can guess."""

    def uniform(self, least: float, most: float) -> float:
        """Return a number between two others. Not for secrets."""
        return least + (most - least) * self.random()

    def bits(self, count: int) -> int:
        """Return a number of so many bits that nobody can guess."""
        return int.from_bytes(self.token_bytes((count + 7) // 8)) >> (-count % 8)

    def token_hex(self, size: int) -> str:
        """Return the digits of so many bytes that nobody can guess."""
        return self.token_bytes(size).hex()

    def token_urlsafe(self, size: int) -> str:
        """Return so many bytes that nobody can guess, as text that may stand in an address or a cookie."""
        return urlsafe_b64encode(self.token_bytes(size)).rstrip(b"=").decode()

    def new_id(self) -> str:
        """Return a new name that nobody else has: 32 digits."""
        return self.token_hex(16)


class SystemEntropy(Entropy):
    """The machine's own."""

    def random(self) -> float:
        """Return a number from 0 to 1, without 1. Not for secrets."""
        return random.random()

    def token_bytes(self, size: int) -> bytes:
        """Return bytes that nobody can guess."""
        return os.urandom(size)  # as `secrets.token_bytes` does


class SeededEntropy(Entropy):
    """The same numbers for the same seed. For tests: everybody can guess what it gives.

    Args:
        seed: of the numbers.
    """

    def __init__(self, seed: int) -> None:
        self._numbers = random.Random(seed)

    def random(self) -> float:
        """Return the next number from 0 to 1, without 1."""
        return self._numbers.random()

    def token_bytes(self, size: int) -> bytes:
        """Return the next bytes."""
        return self._numbers.randbytes(size)
