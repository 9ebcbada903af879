"""Benchmarks, each against a reference measured in the same run: `python -m benchmarks [name ...] [--json FILE]`.

A benchmark is a module of this package with a function `run() -> Iterable[Row]`, which may be async, a generator or
both, and may take one parameter, a function that says what is being measured now.
"""
