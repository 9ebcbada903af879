"""Options and arguments that several commands share."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

import typer

from fusion_cluster.addresses import parse_addresses
from fusion_cluster.errors import InvalidArgument
from fusion_cluster.quantities import as_finite_timeout, shown
from fusion_cluster.v1 import gateway_pb2
from fusion_cluster.wire.spelling import MAX_DEPTH

T = TypeVar("T")

ADDRESS_VARIABLE = "FUSION_CLUSTER_ADDRESS"


def _method(value: str) -> str:
    if value.startswith("-"):  # typer passes unknown options as arguments here, so that negative numbers work
        raise InvalidArgument(f"no such option: {value}")
    return value


Name = Annotated[str, typer.Argument(help="The method, as Service.method.", show_default=False, callback=_method)]
Arguments = Annotated[
    list[str] | None,
    typer.Argument(
        help="Its arguments in order, each a JSON value; any other word is taken as a string.",
        metavar="ARGUMENT",
        show_default=False,
    ),
]


def checked(check: Callable[[str, T], T]) -> Callable[[typer.CallbackParam, T], T]:
    """Return a callback that checks an option's value under the option's name (`fusion_cluster.quantities`)."""

    def callback(option: typer.CallbackParam, value: T) -> T:
        return check(option.opts[0], value)

    return callback


def _address(context: typer.Context, option: typer.CallbackParam, value: str) -> str:
    source = context.get_parameter_source(option.name or "")
    is_from_environment = source is not None and source.name == "ENVIRONMENT"
    parse_addresses(value, ADDRESS_VARIABLE if is_from_environment else option.opts[0])
    return value


Address = Annotated[
    str,
    typer.Option(
        help="host:port of a gateway, unix:/path of its socket, or several IP addresses with commas between them.",
        envvar=ADDRESS_VARIABLE,
        callback=_address,
    ),
]
Timeout = Annotated[float, typer.Option(help="Time limit in seconds.", callback=checked(as_finite_timeout))]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
AppName = Annotated[str | None, typer.Option("--app", help="The app's name; not needed when only one runs.")]
RayAddress = Annotated[
    str | None,
    typer.Option(
        help="The Ray cluster, as host:port; else the one in RAY_ADDRESS, or one of this machine that runs the app."
    ),
]

DEFAULT_ADDRESS = "127.0.0.1:50051"
DEFAULT_TIMEOUT_S = 10.0


def payload(words: Sequence[str] | None) -> gateway_pb2.Payload:
    """Return the arguments of a command line as a JSON payload.

    Raises:
        InvalidArgument: a word looks like an option that does not exist, or is JSON that cannot be sent.
    """
    return gateway_pb2.Payload(json=f"[{','.join(map(_json_value, words or ()))}]")


def _json_value(word: str) -> str:
    if word.startswith("--"):
        raise InvalidArgument(f"no such option: {word} (if it is meant as a string, write it as '\"{word}\"')")
    try:  # numbers of any length stay text: the gateway checks them
        value = json.loads(word, parse_constant=_no_constant, parse_int=str, parse_float=str)
    except ValueError:
        return json.dumps(word)
    except RecursionError as error:
        raise InvalidArgument(f"the argument {shown(word)} is nested deeper than {MAX_DEPTH}") from error
    if "\\u" in word:
        check_text("the argument", word, json.dumps(value, ensure_ascii=False))
    return word


def check_text(what: str, word: str, text: str) -> None:
    """Check that a text can be sent.

    Raises:
        InvalidArgument: it holds half of a surrogate pair; bytes outside the terminal's encoding become such halves.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(
            f"{what} {shown(word)} holds half of a surrogate pair, which is not a character"
        ) from error


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
