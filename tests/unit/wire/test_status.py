from __future__ import annotations

import pytest
from google.rpc import error_details_pb2, status_pb2

from fusion_cluster.errors import CommandOutcomeUnknown, FusionError, InvalidArgument, Overloaded, UnknownService
from fusion_cluster.wire.errors import decode_error, encode_error
from fusion_cluster.wire.status import DETAILS_KEY, error_to_status, status_from_metadata, status_to_error


@pytest.mark.parametrize(
    "error",
    [
        InvalidArgument("not a number", field="price"),
        Overloaded("full", retry_after_s=1.5),
        UnknownService("no such service", field="service"),
        CommandOutcomeUnknown("who knows"),
        FusionError(""),
        ValueError("user's own"),
    ],
)
def test_an_error_survives_the_way_through_a_status(error: Exception) -> None:
    encoded = encode_error(error)
    assert status_to_error(error_to_status(encoded)) == encoded
    assert type(decode_error(status_to_error(error_to_status(encoded)))) is type(error)


def test_the_field_is_in_a_bad_request_and_the_delay_in_a_retry_info() -> None:
    status = error_to_status(encode_error(Overloaded("full", field="calls", retry_after_s=0.25)))
    bad_request, retry = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    assert any(detail.Unpack(bad_request) for detail in status.details)
    assert any(detail.Unpack(retry) for detail in status.details)
    assert bad_request.field_violations[0].field == "calls"
    assert retry.retry_delay.ToMilliseconds() == 250


def test_details_of_other_servers_are_ignored() -> None:
    status = status_pb2.Status(code=5, message="gone")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="ValueError", domain="example.com"))
    error = status_to_error(status)
    assert (error.code, error.message, error.type) == (5, "gone", "")


def test_the_status_is_found_in_the_trailing_metadata() -> None:
    status = status_pb2.Status(code=3, message="no")
    metadata = [("other", "text"), (DETAILS_KEY, status.SerializeToString())]
    assert status_from_metadata(metadata) == status
    assert status_from_metadata([("other", "text")]) is None
    assert status_from_metadata(None) is None
    assert status_from_metadata([(DETAILS_KEY, b"\xff\xff")]) is None
