"""Benchmarks, each against a reference measured in the same run: `python -m benchmarks [name ...] [--json FILE]`.

A benchmark is a module of this package with a function `run() -> Iterable[Row]`. It may be async, a generator or both.
It may take `say`, a function that reports what is being measured, and `quick`. With `--quick` the sizes are so small
that the figures mean little: it only shows that the benchmarks still work.
"""
