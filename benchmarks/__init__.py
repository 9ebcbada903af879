"""Benchmarks, each against a reference measured in the same run: `python -m benchmarks [name ...] [--json FILE]`.

A benchmark is a module of this package with a function `run() -> Iterable[Row]`, which may be async, a generator or
both. It may take `say`, a function that says what is being measured now, and `quick`, whether to run with sizes so
small that the figures mean little: `--quick` shows that the benchmarks still work.
"""
