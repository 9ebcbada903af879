from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from google.rpc import code_pb2
from sqlalchemy.exc import IntegrityError

from fusion_cluster import errors
from fusion_cluster.errors import FusionError, RemoteError
from fusion_cluster.v1 import session_pb2
from fusion_cluster.wire.errors import CODES, decode_error, encode_error, error_code


def tree(root: type[FusionError] = FusionError) -> Iterator[type[FusionError]]:
    yield root
    for subclass in root.__subclasses__():
        if subclass.__module__ == errors.__name__:
            yield from tree(subclass)


def test_the_table_has_exactly_the_classes_of_the_tree() -> None:
    assert set(CODES) == set(tree())


@pytest.mark.parametrize("error_class", list(tree()), ids=lambda c: c.__name__)
def test_every_error_has_a_code_and_comes_back_as_itself(error_class: type[FusionError]) -> None:
    error = error_class("no")
    error.field, error.retry_after_s = "name", 1.5
    encoded = session_pb2.Error.FromString(encode_error(error).SerializeToString())
    assert encoded.code == CODES[error_class] != code_pb2.OK
    assert encoded.type == error_class.__name__
    assert encoded.transient == error_class.is_transient
    decoded = decode_error(encoded)
    assert type(decoded) is error_class
    assert isinstance(decoded, FusionError)
    assert decoded.message == "no"
    if error_class is not errors.NotOwner:
        assert (decoded.field, decoded.retry_after_s) == ("name", 1.5)


def test_errors_of_callers_never_look_like_errors_of_ours() -> None:
    for error_class in tree(errors.UsageError):
        assert CODES[error_class] not in (code_pb2.INTERNAL, code_pb2.UNKNOWN)


def test_an_error_of_user_code_keeps_its_name_and_message_over_any_number_of_hops() -> None:
    class OutOfStockError(Exception):
        is_transient = True
        retry_after_s = 2.0

    first = decode_error(encode_error(OutOfStockError("none left")))
    second = decode_error(encode_error(first))
    for error in (first, second):
        assert isinstance(error, RemoteError)
        assert (error.error_type, error.message, str(error)) == (
            "OutOfStockError",
            "none left",
            "OutOfStockError: none left",
        )
        assert error.is_transient
        assert error.retry_after_s == 2.0
    assert not RemoteError.is_transient


def test_a_users_subclass_of_our_errors_has_the_code_of_its_ancestor() -> None:
    class Sealed(errors.PermissionDenied):
        pass

    assert error_code(Sealed("no")) == code_pb2.PERMISSION_DENIED
    assert isinstance(decode_error(encode_error(Sealed("no"))), RemoteError)


@pytest.mark.parametrize(
    "error", [ValueError("a"), KeyError("a"), TimeoutError("a"), ZeroDivisionError("a"), LookupError()]
)
def test_common_builtin_exceptions_come_back_as_themselves(error: Exception) -> None:
    decoded = decode_error(encode_error(error))
    assert type(decoded) is type(error)
    assert str(decoded) == str(type(error)(*error.args or ("",)))
    assert encode_error(error).code == code_pb2.UNKNOWN


def test_no_builtin_that_ends_a_process_is_ever_rebuilt() -> None:
    for name in (
        "SystemExit",
        "KeyboardInterrupt",
        "GeneratorExit",
        "BaseException",
        "StopIteration",
        "CancelledError",
    ):
        assert type(decode_error(session_pb2.Error(code=2, type=name))) is RemoteError


def test_cancellation_has_its_own_code() -> None:
    assert error_code(asyncio.CancelledError()) == code_pb2.CANCELLED


def test_no_error_breaks_its_own_transport() -> None:
    class NastyError(Exception):
        retry_after_s = 1e30

        def __str__(self) -> str:
            raise RuntimeError("broken")

    assert encode_error(NastyError(1, 2)).message == ""
    assert encode_error(ValueError("\ud800")).message == "?"
    assert len(encode_error(ValueError("x" * 100_000)).message) <= 4096
    for retry_after_s in (float("nan"), float("inf"), -1.0, 0.0):
        encode_error(errors.Overloaded("full", retry_after_s=retry_after_s)).SerializeToString()


def test_the_error_of_a_database_shows_no_statement() -> None:
    error = IntegrityError("INSERT INTO secrets", {}, ValueError("UNIQUE constraint failed"))
    assert encode_error(error).message == "UNIQUE constraint failed"
    assert encode_error(error).type == "IntegrityError"


def test_a_delay_shorter_than_a_millisecond_is_not_lost() -> None:
    assert encode_error(errors.Overloaded("full", retry_after_s=0.0001)).retry_after_ms == 1
