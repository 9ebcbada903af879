"""Which errors may go away by themselves, and how an app says so."""

from __future__ import annotations

import math
from typing import Any

import pytest
from sqlalchemy import exc

from fusion_cluster import App, ComputeService, ShardUnavailable, Transiency, UsageError, WorkerLost, compute_method
from fusion_cluster.failures.failure import is_transient, retry_delay_s


class RateLimited(Exception):
    pass


class Says(Exception):
    def __init__(self, answer: object) -> None:
        self.is_transient = answer


def says_yes() -> bool:
    return True


def says_no() -> bool:
    return False


class Original(Exception):
    def __init__(self, sqlstate: str) -> None:
        self.sqlstate = sqlstate


def of_database(kind: type[exc.DBAPIError], sqlstate: str = "", *, is_lost: bool = False) -> exc.DBAPIError:
    return kind("select 1", {}, Original(sqlstate), connection_invalidated=is_lost)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (ValueError(), False),
        (ShardUnavailable(), True),
        (WorkerLost(), True),
        (UsageError(), False),
        (Says(True), True),
        (Says(False), False),
        (Says(says_yes), True),
        (Says(says_no), False),
        (of_database(exc.OperationalError), True),
        (of_database(exc.InterfaceError), True),
        (exc.TimeoutError(), True),
        (of_database(exc.DBAPIError, "40P01"), True),
        (of_database(exc.DBAPIError, "40001"), True),
        (of_database(exc.DBAPIError, "55P03"), True),
        (of_database(exc.DBAPIError, "57P01"), True),
        (of_database(exc.DBAPIError, "57014"), False),
        (of_database(exc.DBAPIError, "22012"), False),
        (of_database(exc.ProgrammingError), False),
        (of_database(exc.ProgrammingError, is_lost=True), True),
        (of_database(exc.IntegrityError, "23505"), False),
        (exc.NoResultFound(), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Says) else repr(value),
)
def test_what_is_transient_when_nobody_says_otherwise(error: Exception, expected: bool) -> None:
    assert is_transient(error) is expected
    assert Transiency()(error) is expected


def test_classes_and_functions_extend_what_is_known() -> None:
    transiency = Transiency().add(RateLimited, lambda error: "again" in str(error)).exclude(TimeoutError)
    assert transiency(RateLimited())
    assert transiency(ValueError("try again"))
    assert not transiency(ValueError("never"))
    assert not transiency(TimeoutError())
    assert transiency(ConnectionError())


def test_what_was_told_last_is_asked_first() -> None:
    transiency = Transiency().exclude(lambda error: "fatal" in str(error)).add(ConnectionError)
    assert transiency(ConnectionError("fatal"))
    transiency.exclude(ConnectionResetError)
    assert not transiency(ConnectionResetError())
    assert not transiency(OSError("fatal"))


@pytest.mark.parametrize("kind", [int, "RateLimited", None, BaseException])
def test_what_is_no_error_and_no_function_is_refused(kind: Any) -> None:
    with pytest.raises(UsageError) as caught:
        Transiency().add(kind)
    assert caught.value.field == "is_transient"


def fails(error: Exception) -> bool:
    raise RuntimeError


@pytest.mark.parametrize(
    ("own", "expected_s"),
    [(0.5, 0.5), (0, 0.0), (-3, 0.0), ("2", 2.0), (math.inf, math.inf), (math.nan, 1.0), ("soon", 1.0), (None, 30.0)],
)
def test_an_error_may_say_when_to_try_again(own: object, expected_s: float) -> None:
    error = ValueError()
    error.retry_after_s = own  # type: ignore[attr-defined]
    delay_s = retry_delay_s(error, transient_error_delay=1.0, error_delay=30.0, classifier=is_transient)
    assert delay_s == expected_s


def test_a_classifier_that_raises_means_transient() -> None:
    transiency = Transiency().add(fails)
    delay_s = retry_delay_s(ValueError(), transient_error_delay=1.0, error_delay=30.0, classifier=transiency)
    assert delay_s == 1.0


async def test_an_app_has_its_own_classifier() -> None:
    class Limited(ComputeService):
        @compute_method(transient_error_delay=0.0)
        async def get(self) -> int:
            raise RateLimited

    app = App("limited", services=[Limited], is_transient=Transiency().add(RateLimited))
    async with app.local() as host:
        computed = await host.service(Limited).get().update()
        assert not computed.is_consistent  # transient, and those are not kept here
        assert host.graph.is_transient(RateLimited())
