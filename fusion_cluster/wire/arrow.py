"""Arrays and frames as Arrow IPC streams: Arrow's own data, NumPy arrays, pandas and polars frames and series.

None of these libraries is imported for its own sake: a value or a type of theirs can only be here if the user's code
has imported it. What an Arrow stream does not say by itself (shape, dtype, a series' name) is in its schema's metadata.
"""

from __future__ import annotations

import io
import json
import sys
from typing import Any, Final

from fusion_cluster.errors import UsageError

ARROW_MEDIA_TYPE: Final = "application/vnd.apache.arrow.stream"
"""Media type of arrays and frames: an IPC stream (base64 in JSON)."""

_COLUMN: Final = "value"
_METADATA: Final = b"fusion_cluster"


def library_of(kind: object) -> str | None:
    """Return the library of a class whose values travel as Arrow data; None for every other class."""
    if not isinstance(kind, type):
        return None
    for library, names in _CLASSES.items():
        module: Any = sys.modules.get(library)
        if module is not None and issubclass(kind, tuple(getattr(module, name) for name in names)):
            return library
    return None


_CLASSES: Final[dict[str, tuple[str, ...]]] = {
    "pyarrow": ("Table", "RecordBatch", "Array", "ChunkedArray"),
    "numpy": ("ndarray",),
    "pandas": ("DataFrame", "Series"),
    "polars": ("DataFrame", "Series"),
}


def to_stream(value: Any) -> bytes:
    """Return an array or a frame as an Arrow IPC stream.

    Raises:
        UsageError: it holds something that Arrow does not know, such as objects of Python.
    """
    library = library_of(type(value))
    assert library is not None
    try:
        stream: bytes = _ENCODERS[library](value)
    except UsageError:
        raise
    except Exception as error:  # each library has errors of its own
        raise UsageError(f"a {library}.{type(value).__name__} that Arrow cannot hold: {error}") from error
    return stream


def from_stream(hint: type, encoded: bytes) -> Any:
    """Return the array or frame that an Arrow IPC stream encodes.

    Raises:
        ValueError: it is not an Arrow IPC stream, or a stream of another kind of data.
    """
    library = library_of(hint)
    assert library is not None
    try:
        value = _DECODERS[library](hint, encoded)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"not an Arrow IPC stream of a {library}.{hint.__name__}: {error}") from error
    if not isinstance(value, hint):
        raise ValueError(f"Expected `{hint.__name__}`, got `{type(value).__name__}`")
    return value


# -- Arrow -------------------------------------------------------------------------------------------------------------
def _arrow_to_stream(value: Any) -> bytes:
    import pyarrow as pa

    if isinstance(value, pa.Array):
        value = pa.record_batch([value], names=[_COLUMN])
    elif isinstance(value, pa.ChunkedArray):
        value = pa.table([value], names=[_COLUMN])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, value.schema) as writer:
        writer.write(value)
    return bytes(sink.getvalue())


def _table_of(encoded: bytes) -> Any:
    import pyarrow as pa

    try:
        table = pa.ipc.open_stream(encoded).read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"not an Arrow IPC stream: {error}") from error
    return table


def _arrow_from_stream(hint: Any, encoded: bytes) -> Any:
    import pyarrow as pa

    table = _table_of(encoded)
    if issubclass(hint, pa.Table):
        return table
    if issubclass(hint, pa.RecordBatch):
        batches = table.combine_chunks().to_batches()
        return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)
    if table.num_columns != 1:
        raise ValueError(f"Expected one column, got {table.num_columns}")
    column = table.column(0)
    return column if issubclass(hint, pa.ChunkedArray) else column.combine_chunks()


def _with_metadata(table: Any, said: dict[str, Any]) -> Any:
    return table.replace_schema_metadata({**(table.schema.metadata or {}), _METADATA: json.dumps(said).encode()})


def _metadata_of(table: Any) -> dict[str, Any]:
    said = json.loads((table.schema.metadata or {}).get(_METADATA, b"null"))
    if not isinstance(said, dict):
        raise ValueError("the Arrow IPC stream does not say what it was made from")
    return said


# -- NumPy -------------------------------------------------------------------------------------------------------------
_KINDS: Final = "biufcmMUS"
_VIEWED: Final = {"m": "int64", "M": "int64"}


def _numpy_to_stream(value: Any) -> bytes:
    import numpy as np
    import pyarrow as pa

    kind = value.dtype.kind
    if kind not in _KINDS or (kind == "f" and value.dtype.itemsize > 8) or (kind == "c" and value.dtype.itemsize > 16):
        raise UsageError(f"an ndarray of dtype {value.dtype} cannot travel: use numbers, bools, times or text")
    if type(value) is not np.ndarray:
        raise UsageError(f"a {type(value).__name__} cannot travel: make an ordinary ndarray of it")
    flat: Any = np.ascontiguousarray(value).reshape(-1)
    flat = flat.astype(flat.dtype.newbyteorder("="), copy=False)
    if kind in _VIEWED:
        flat = flat.view(_VIEWED[kind])
    elif kind == "c":
        flat = flat.view(f"f{flat.dtype.itemsize // 2}")
    elif kind in "US":
        flat = flat.tolist()
    column = pa.array(flat, type={"U": pa.large_string(), "S": pa.large_binary()}.get(kind))
    table = pa.table({_COLUMN: column})
    return _arrow_to_stream(_with_metadata(table, {"dtype": value.dtype.str, "shape": list(value.shape)}))


def _numpy_from_stream(hint: Any, encoded: bytes) -> Any:
    import numpy as np

    table = _table_of(encoded)
    if _METADATA not in (table.schema.metadata or {}) and table.num_columns == 1:  # any column is an array
        return np.array(table.column(0).to_numpy(), copy=True)
    said = _metadata_of(table)
    dtype, shape = np.dtype(str(said["dtype"])), tuple(int(length) for length in said["shape"])
    column = table.column(0)
    if dtype.kind in "US":
        flat = np.array(column.to_pylist(), dtype=dtype)
    else:
        flat = np.array(column.to_numpy(), copy=True)
        if dtype.kind in "mMc":
            flat = flat.view(dtype.newbyteorder("="))
        flat = flat.astype(dtype, copy=False)
    return flat.reshape(shape)


# -- pandas ------------------------------------------------------------------------------------------------------------
def _pandas_to_stream(value: Any) -> bytes:
    import pandas as pd
    import pyarrow as pa

    if isinstance(value, pd.DataFrame):
        return _arrow_to_stream(pa.Table.from_pandas(value))
    if not (value.name is None or isinstance(value.name, str | int)):
        raise UsageError(f"a Series named {value.name!r} cannot travel: its name must be text, a number or None")
    table = pa.Table.from_pandas(value.to_frame(_COLUMN))
    return _arrow_to_stream(_with_metadata(table, {"name": value.name}))


def _pandas_from_stream(hint: Any, encoded: bytes) -> Any:
    import pandas as pd

    table = _table_of(encoded)
    frame = table.to_pandas()
    if issubclass(hint, pd.DataFrame):
        return frame
    if frame.shape[1] != 1:
        raise ValueError(f"Expected one column, got {frame.shape[1]}")
    has_name = _METADATA in (table.schema.metadata or {})
    return frame.iloc[:, 0].rename(_metadata_of(table)["name"]) if has_name else frame.iloc[:, 0]


# -- polars ------------------------------------------------------------------------------------------------------------
def _polars_to_stream(value: Any) -> bytes:
    import polars as pl

    sink = io.BytesIO()
    frame = value.to_frame() if isinstance(value, pl.Series) else value
    frame.write_ipc_stream(sink)
    return sink.getvalue()


def _polars_from_stream(hint: Any, encoded: bytes) -> Any:
    import polars as pl

    frame = pl.read_ipc_stream(encoded)
    if issubclass(hint, pl.DataFrame):
        return frame
    if frame.width != 1:
        raise ValueError(f"Expected one column, got {frame.width}")
    return frame.to_series()


_ENCODERS: Final[dict[str, Any]] = {
    "pyarrow": _arrow_to_stream,
    "numpy": _numpy_to_stream,
    "pandas": _pandas_to_stream,
    "polars": _polars_to_stream,
}
_DECODERS: Final[dict[str, Any]] = {
    "pyarrow": _arrow_from_stream,
    "numpy": _numpy_from_stream,
    "pandas": _pandas_from_stream,
    "polars": _polars_from_stream,
}
