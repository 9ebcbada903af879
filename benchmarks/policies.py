"""Caches that only say whether they would have had a key: what the `eviction` benchmark compares the graph with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterable


class Policy(ABC):
    """A cache without values.

    Args:
        size: the most keys that it holds.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    @abstractmethod
    def access(self, key: int) -> bool:
        """Read a key; tell whether it was there. If not, it is put there, and another goes where there is no room."""

    def hit_rate(self, trace: Iterable[int]) -> float:
        """Read all keys of a trace; return the hits in percent."""
        found = [self.access(key) for key in trace]
        return 100 * sum(found) / len(found)


class Lru(Policy):
    """Evicts the key that was not read for the longest time."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._keys: OrderedDict[int, None] = OrderedDict()

    def access(self, key: int) -> bool:
        """Make the key the latest."""
        if key in self._keys:
            self._keys.move_to_end(key)
            return True
        if len(self._keys) == self.size:
            self._keys.popitem(last=False)
        self._keys[key] = None
        return False


class Lfu(Policy):
    """Evicts the key that was read least often since it came; among equals, the one not read for the longest time.

    With a list of keys per number of reads, so that every access takes the same time (Shah, Mitra, Matani, "An O(1)
    algorithm for implementing the LFU cache eviction scheme", 2010).
    """

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._reads: dict[int, int] = {}
        self._keys_read: dict[int, OrderedDict[int, None]] = {}
        self._fewest = 0

    def access(self, key: int) -> bool:
        """Count the read."""
        reads = self._reads.get(key, 0)
        if reads:
            self._take(key, reads)
            if reads == self._fewest and reads not in self._keys_read:
                self._fewest = reads + 1
        else:
            if len(self._reads) == self.size:
                victim = next(iter(self._keys_read[self._fewest]))
                self._take(victim, self._fewest)
                del self._reads[victim]
            self._fewest = 1
        self._reads[key] = reads + 1
        self._keys_read.setdefault(reads + 1, OrderedDict())[key] = None
        return reads > 0

    def _take(self, key: int, reads: int) -> None:
        keys = self._keys_read[reads]
        del keys[key]
        if not keys:
            del self._keys_read[reads]


class Sieve(Policy):
    """Evicts the first key without a mark that its hand meets on its way from the oldest to the newest.

    A read marks a key, and the hand takes the marks away (Zhang et al., "SIEVE is Simpler than LRU", NSDI 2024).
    """

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._marked: dict[int, bool] = {}
        # Keys by the order in which they came, each with the next older and the next newer one.
        self._older: dict[int, int | None] = {}
        self._newer: dict[int, int | None] = {}
        self._oldest: int | None = None
        self._newest: int | None = None
        self._hand: int | None = None

    def access(self, key: int) -> bool:
        """Mark the key if it is there."""
        if key in self._marked:
            self._marked[key] = True
            return True
        if len(self._marked) == self.size:
            self._evict()
        self._marked[key] = False
        self._older[key], self._newer[key] = self._newest, None
        if self._newest is None:
            self._oldest = key
        else:
            self._newer[self._newest] = key
        self._newest = key
        return False

    def _evict(self) -> None:
        victim = self._under_the_hand()
        while self._marked[victim]:
            self._marked[victim] = False
            self._hand = self._newer[victim]
            victim = self._under_the_hand()
        del self._marked[victim]
        older, newer = self._older.pop(victim), self._newer.pop(victim)
        if older is None:
            self._oldest = newer
        else:
            self._newer[older] = newer
        if newer is None:
            self._newest = older
        else:
            self._older[newer] = older
        self._hand = newer

    def _under_the_hand(self) -> int:
        key = self._oldest if self._hand is None else self._hand
        assert key is not None
        return key


POLICIES: dict[str, Callable[[int], Policy]] = {"LRU": Lru, "LFU": Lfu, "SIEVE": Sieve}
