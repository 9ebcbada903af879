"""Whether two outputs say the same, so that nobody has to be told that the one has taken the place of the other."""

from __future__ import annotations

from typing import Any, cast

from fusion_cluster.failures.exact_copies import ARGS
from fusion_cluster.failures.exits import reraise_outside
from fusion_cluster.graph.core.hot_path import Node


def is_equal(old: object, new: object) -> bool:
    """Tell whether two values are equal by `==`; those that cannot say so (arrays) are not."""
    try:
        return old is new or bool(cast("Any", old == new))
    except BaseException as error:
        reraise_outside(error)
        return False


def is_same_output(old: Node[Any], new: Node[Any]) -> bool:
    """Tell whether two nodes have equal values, or errors of the same type with equal arguments.

    A node without an output, or whose value was paged out, is the same as none.
    """
    if old._failure is not None or new._failure is not None:
        if old._failure is None or new._failure is None:
            return False
        first, second = old._failure.error, new._failure.error
        return type(first) is type(second) and is_equal(ARGS.__get__(first), ARGS.__get__(second))
    try:
        first_value, second_value = old._value, new._value
    except AttributeError:
        return False
    return is_equal(first_value, second_value)
