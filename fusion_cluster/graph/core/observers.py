"""Calls the observers of marked nodes: each once, while no computation is current, after its node is marked."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from fusion_cluster.failures.exits import is_from_outside
from fusion_cluster.graph.core.context import current_computation

if TYPE_CHECKING:
    from fusion_cluster.graph.core.hot_path import Node

log = logging.getLogger(__name__)


class Observers:
    """Those of one graph."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: list[Node[Any]] | None = None

    def tell(self, nodes: Iterable[Node[Any]]) -> None:
        """Tell the observers of nodes that are marked: now, or at the end of `held`."""
        if self._held is None:
            _tell(nodes)
        else:
            self._held.extend(nodes)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold back what is to be told until the end: no observer is called before all is marked that is marked within.

        The inner one of two leaves it to the outer one.
        """
        if self._held is not None:
            yield
            return
        held: list[Node[Any]] = []
        self._held = held
        try:
            yield
        finally:
            self._held = None
            _tell(held)


def _tell(nodes: Iterable[Node[Any]]) -> None:
    interruption: BaseException | None = None
    outer = current_computation.get()
    if outer is not None:
        current_computation.set(None)
    try:
        for node in nodes:
            observers = node._observers
            if observers is None:
                continue
            node._observers = None
            told: Iterable[Any] = observers if isinstance(observers, dict) else (observers,)
            for observer in told:
                try:
                    observer(node)
                except BaseException as error:
                    if is_from_outside(error):
                        interruption = error  # first all are called, then the program may end
                    else:
                        log.exception("an observer of an invalidated computed failed")
        if interruption is not None:
            raise interruption
    finally:
        interruption = None
        if outer is not None:
            current_computation.set(outer)
