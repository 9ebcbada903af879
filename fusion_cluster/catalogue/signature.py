"""Signatures of service methods: parameters, result, and the one canonical form of arguments."""

from __future__ import annotations

import contextlib
import enum
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Final

from fusion_cluster.errors import InvalidArgument, UsageError
from fusion_cluster.wire.codec import ArgumentsCodec
from fusion_cluster.wire.spelling import substituted


class Required(enum.Enum):
    """Class of the mark for a parameter without a default."""

    REQUIRED = "REQUIRED"


REQUIRED: Final = Required.REQUIRED
"""Mark of a parameter without a default."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a service method.

    Attributes:
        name: its name.
        type: its resolved type hint; `Any` when it has none.
        default: its default, or `REQUIRED`.
        is_keyword_only: it cannot be passed by position in Python (on the wire it can: it has its place in the order).
    """

    name: str
    type: Any
    default: Any = REQUIRED
    is_keyword_only: bool = False

    @property
    def is_required(self) -> bool:
        """Whether a call must give it."""
        return self.default is REQUIRED


class Signature:
    """Parameters, result type and documentation of a service method.

    Type hints are resolved when they are first needed, so they may name classes that are defined later.

    Args:
        function: the method as written, with `self` first.
        name: "Service.method".
        variables: what type variables in its hints stand for.

    Attributes:
        is_key: equal arguments are the same key, as those of compute methods are.

    Raises:
        UsageError: the method has no `self`, or takes `*args` or `**kwargs`.
    """

    is_key: ClassVar[bool] = True

    def __init__(self, function: Callable[..., Any], name: str, variables: Mapping[Any, Any] | None = None) -> None:
        self.name = name
        self._function = function
        self._variables = dict(variables) if variables else None
        parameters = list(inspect.signature(function).parameters.values())
        if not parameters or parameters[0].kind not in (
            inspect.Parameter.POSITIONAL_ONLY,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
        ):
            raise UsageError(f"{name} must take self as its first parameter")
        for parameter in parameters:
            if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
                raise UsageError(
                    f"{name} takes *{parameter.name}: a service method names each of its parameters",
                    field=parameter.name,
                )
        self._declared = tuple(parameters[1:])
        self._positional_only = frozenset(p.name for p in self._declared if p.kind is inspect.Parameter.POSITIONAL_ONLY)

    def __repr__(self) -> str:
        return f"<Signature {self.name}({', '.join(p.name for p in self._declared)})>"

    def __getstate__(self) -> dict[str, Any]:
        """Return the parts that can be pickled. Codecs cannot, and are made again in the other process."""
        derived = {
            name for kind in type(self).__mro__ for name, of in vars(kind).items() if isinstance(of, cached_property)
        }
        return {name: value for name, value in vars(self).items() if name not in derived}

    @property
    def documentation(self) -> str:
        """The method's docstring, cleaned, or ""."""
        return inspect.getdoc(self._function) or ""

    @cached_property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the parameters in order, without `self`; resolves no type hint."""
        return tuple(parameter.name for parameter in self._declared)

    @cached_property
    def names_for_callers(self) -> tuple[str | None, ...]:
        """One for each parameter: the name by which a call may give it; None where it may not be given by name."""
        return tuple(None if name in self._positional_only else name for name in self.parameter_names)

    @cached_property
    def defaults(self) -> tuple[Any, ...]:
        """One for each parameter: its default, as written; `REQUIRED` if it has no default."""
        empty = inspect.Parameter.empty
        return tuple(REQUIRED if p.default is empty else p.default for p in self._declared)

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """The parameters in order, without `self`.

        Raises:
            UsageError: a type hint names something that cannot be found.
        """
        empty = inspect.Parameter.empty
        return tuple(
            Parameter(
                name=p.name,
                type=self._hint(p.name),
                default=REQUIRED if p.default is empty else p.default,
                is_keyword_only=p.kind is inspect.Parameter.KEYWORD_ONLY,
            )
            for p in self._declared
        )

    @cached_property
    def result_type(self) -> Any:
        """The resolved type hint of the result; `Any` when there is none.

        Raises:
            UsageError: the type hint names something that cannot be found.
        """
        return self._hint("return")

    @cached_property
    def codec(self) -> ArgumentsCodec:
        """Codec that makes arguments canonical, and bytes.

        Raises:
            UsageError: arguments of a parameter's type cannot travel; `field` names it.
        """
        return ArgumentsCodec(self.name, self.parameters, is_key=self.is_key)

    @cached_property
    def canonical_types(self) -> tuple[type | None, ...]:
        """One for each parameter: the type whose values are canonical as they are; None if it has no such type."""
        return tuple(parameter.type if parameter.type in (int, str, bytes) else None for parameter in self.parameters)

    @cached_property
    def positional_count(self) -> int:
        """How many arguments a call may give by position."""
        return sum(p.kind is not inspect.Parameter.KEYWORD_ONLY for p in self._declared)

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the canonical arguments of the call `method(*args, **kwargs)`.

        Defaults are filled in, all stand in the order of the parameters, and each is what decoding makes of it in
        another process.

        Raises:
            InvalidArgument: an argument is missing, unknown, given twice, does not fit its type or cannot travel;
                `field` names it.
        """
        return self.codec.canonical(self.values(args, kwargs))

    def values(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Sequence[Any]:
        """Return the arguments of the call `method(*args, **kwargs)` as they are, one for each parameter.

        Raises:
            InvalidArgument: an argument is missing, unknown or given twice; `field` names it.
        """
        if len(args) > self.positional_count:
            raise self._surplus(len(args))
        if len(args) == len(self._declared) and not kwargs:
            return args
        given = dict(zip(self.parameter_names, args, strict=False))
        for name, value in kwargs.items():
            if name not in self.parameter_names or name in self._positional_only:
                raise InvalidArgument(f"{self.name} has no parameter {name!r} to give by name", field=name)
            if name in given:
                raise InvalidArgument(f"{self.name}: {name!r} is given twice", field=name)
            given[name] = value
        return self._with_defaults([given.get(name, REQUIRED) for name in self.parameter_names])

    def canonicalise(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """Return the canonical arguments for `values`, which stand in the order of the parameters.

        Keyword-only parameters have their place too, and the last ones may be missing when they have defaults.

        Raises:
            InvalidArgument: as in `bind`.
        """
        missing = len(self._declared) - len(values)
        if missing < 0:
            raise self._surplus(len(values))
        return self.codec.canonical(self._with_defaults([*values, *[REQUIRED] * missing]))

    def call(self, body: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """Call `body` (the bound method as written) with canonical arguments."""
        count = self.positional_count
        if count >= len(arguments):
            return body(*arguments)
        return body(*arguments[:count], **dict(zip(self.parameter_names[count:], arguments[count:], strict=True)))

    # -- inside ------------------------------------------------------------------------------------------------------
    def _hint(self, name: str) -> Any:
        """Resolve one type hint; names are looked up as in the function's body."""
        function: Any = inspect.unwrap(self._function)
        annotation = function.__annotations__.get(name, Any)
        variables = self._variables or {}
        named = (*variables, *getattr(function, "__type_params__", ()))
        enclosing: dict[str, Any] = {variable.__name__: variable for variable in named}
        for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            with contextlib.suppress(ValueError):  # not assigned yet
                enclosing[variable] = cell.cell_contents
        holder = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            hints = typing.get_type_hints(holder, function.__globals__, enclosing, include_extras=True)
        except Exception as error:
            raise UsageError(
                f"{self.name}: the type hint of {name!r} cannot be resolved ({error}); it must exist at run time",
                field=name,
            ) from error
        return substituted(hints[name], variables)

    def _with_defaults(self, values: list[Any]) -> list[Any]:
        for index, (name, default) in enumerate(zip(self.parameter_names, self.defaults, strict=True)):
            if values[index] is REQUIRED:
                if default is REQUIRED:
                    raise InvalidArgument(f"{self.name}: {name!r} is missing", field=name)
                values[index] = default
        return values

    def _surplus(self, given: int) -> InvalidArgument:
        count = len(self._declared)
        takes = f"{count} argument{'' if count == 1 else 's'}"
        field = self.parameter_names[-1] if self._declared else ""
        return InvalidArgument(f"{self.name} takes {takes}, {given} were given", field=field)
