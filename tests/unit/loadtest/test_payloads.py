from __future__ import annotations

from fusion_cluster.v1 import gateway_pb2
from loadtest.payloads import call_request, execute_request, request_name, value_of, watch_request


def test_arguments_go_as_a_json_array_in_order() -> None:
    request = call_request("Airports.board", "JFK", 3, None)
    assert (request.service, request.method) == ("Airports", "board")
    assert request.arguments.json == '["JFK",3,null]'


def test_no_arguments_are_an_empty_array() -> None:
    assert call_request("Network.totals").arguments.json == "[]"


def test_a_watch_says_what_to_watch_and_how_often() -> None:
    request = watch_request("Airports.board", "JFK", min_interval_ms=100)
    assert request.call == call_request("Airports.board", "JFK")
    assert request.min_interval_ms == 100


def test_each_command_has_an_id_of_its_own_and_a_retry_the_same() -> None:
    first, second = execute_request("Flights.depart", 1), execute_request("Flights.depart", 1)
    assert first.command_id
    assert first.command_id != second.command_id
    assert execute_request("Flights.depart", 1, command_id=first.command_id) == first


def test_statistics_name_the_method_without_its_arguments() -> None:
    requests = [call_request("A.b", 1), watch_request("A.b", 1), execute_request("A.b", 1)]
    assert [request_name(request) for request in requests] == ["A.b"] * 3
    assert request_name(gateway_pb2.DescribeRequest()) == "DescribeRequest"


def test_a_value_is_read_from_its_json() -> None:
    assert value_of(gateway_pb2.Payload(json='{"total":[1,2]}')) == {"total": [1, 2]}
