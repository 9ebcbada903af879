"""Tells whether a body returns next: after the block of its operation it only gives its result.

Commands mostly end with `return row.id`, in the block or right after it. The result of such a body can be recorded with
its commit, because nothing can be observed between the end of the block and the return: so the commit waits for it. The
compiled function shows that: its instructions between the two may only load, build, name and return.
"""

from __future__ import annotations

import dis
import functools
import itertools
import warnings
from types import CodeType, FrameType, FunctionType
from typing import Any, Final

_HARMLESS: Final = frozenset(
    (
        *("NOP", "RESUME", "EXTENDED_ARG", "POP_TOP", "END_SEND", "SWAP", "COPY", "NOT_TAKEN", "TO_BOOL", "UNARY_NOT"),
        *("LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_FAST_BORROW", "LOAD_FAST_LOAD_FAST", "LOAD_CONST", "LOAD_SMALL_INT"),
        *("LOAD_FAST_BORROW_LOAD_FAST_BORROW", "LOAD_CONST_IMMORTAL", "LOAD_CONST_MORTAL", "LOAD_DEREF"),
        *("LOAD_GLOBAL", "LOAD_ATTR", "BINARY_SUBSCR", "BINARY_OP", "COMPARE_OP", "IS_OP", "CONTAINS_OP"),
        *("UNARY_NEGATIVE", "BUILD_TUPLE", "BUILD_LIST", "BUILD_MAP", "BUILD_SET", "BUILD_CONST_KEY_MAP"),
        *("STORE_FAST", "STORE_FAST_LOAD_FAST", "STORE_FAST_STORE_FAST"),
        *("BUILD_STRING", "FORMAT_VALUE", "FORMAT_SIMPLE", "FORMAT_WITH_SPEC", "CONVERT_VALUE"),
    )
)
_RETURNS: Final = ("RETURN_VALUE", "RETURN_CONST")
_OWN_HANDLERS: Final = ("CLEANUP_THROW", "CALL_INTRINSIC_1")
"""The handlers with which the compiler guards an `await`, and a whole coroutine."""


class UnrecordedResult(UserWarning):
    """A command makes its result in a way that cannot be recorded with the commit: a crash may lose it.

    It is issued when the command runs, once for each place, before the commit. To get an error instead, which rolls the
    command back: `warnings.filterwarnings("error", category=UnrecordedResult)`.
    """


def returns_next(frame: FrameType) -> bool:
    """Whether the body that runs in a frame and awaits the end of a block gives its result next in every case.

    It is false if the block is in a `try` or in another `with`, which would see an error of its end.
    """
    return _returns_next(frame.f_code, frame.f_lasti)


def warn_of_unrecorded_result(name: str, function: FunctionType, frame: FrameType | None) -> None:
    """Warn that the result of a command is made too late to be recorded with the commit; once for each line.

    Args:
        name: the name of the command.
        function: its body, as it is written.
        frame: the frame that ends the operation's block, in the body or below it.

    Raises:
        UnrecordedResult: warnings are errors.
    """
    while frame is not None and frame.f_code is not function.__code__:
        frame = frame.f_back
    warnings.warn_explicit(
        f"{name} gives a result that is not recorded with its commit: if the process ends right after that, a retry of "
        "the command gets CommandResultLost. Write `return operation.result(...)` in the block of an operation of its "
        "own, or a `return` there, or one right behind it that calls nothing; or declare that it returns None",
        UnrecordedResult,
        function.__code__.co_filename,
        function.__code__.co_firstlineno if frame is None else frame.f_lineno,
        registry=function.__globals__.setdefault("__warningregistry__", {}),
    )


@functools.lru_cache(maxsize=1024)
def _returns_next(code: CodeType, awaiting: int) -> bool:
    read: Any = dis.Bytecode(code)
    instructions = {instruction.offset: instruction for instruction in read}
    offsets = sorted(instructions)
    following = dict(itertools.pairwise(offsets))
    send = max(
        (offset for offset in offsets if offset <= awaiting and instructions[offset].opname == "SEND"), default=-1
    )
    if send < 0 or any(
        entry.start <= send < entry.end and instructions[entry.target].opname not in _OWN_HANDLERS
        for entry in read.exception_entries
    ):
        return False
    ahead, seen = [int(instructions[send].argval)], set[int]()
    while ahead:
        offset = ahead.pop()
        if offset in seen:
            continue
        seen.add(offset)
        instruction = instructions[offset]
        name = instruction.opname
        if name in _RETURNS:
            continue
        if name == "JUMP_FORWARD":
            ahead.append(int(instruction.argval))
        elif name.startswith(("POP_JUMP_", "JUMP_IF_")) and "BACKWARD" not in name:
            ahead += (int(instruction.argval), following[offset])
        elif name in _HARMLESS and offset in following and not _changes_in_place(instruction):
            ahead.append(following[offset])
        else:
            return False
    return True


def _changes_in_place(instruction: dis.Instruction) -> bool:
    """Whether it is a `+=` or a similar operator, which changes lists and sets that others may hold, too."""
    return instruction.opname == "BINARY_OP" and instruction.argrepr.endswith("=")
