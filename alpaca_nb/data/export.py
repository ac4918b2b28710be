"""Rows for other libraries: an Arrow table on the same memory, and from it polars.

Arrow's layout is ours: numbers, times and codes are wrapped and not copied. Written rows never
change, so neither does the table, whatever becomes of the frame; it keeps the memory alive.
Both libraries are optional and loaded with the first export.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from alpaca_nb.data.columns import TIME_ZONE, AnyArray, Column, Kind, Snapshot
from alpaca_nb.errors import AlpacaError

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_NOT_A_TIME: Final = np.iinfo(np.int64).min
"""How numpy and pandas spell a missing time in int64."""


def to_arrow(rows: Snapshot, *, channel: str | None = None) -> pa.Table:
    """The rows as a `pyarrow.Table` with the columns of the frame, `timestamp` the first.

    Times are `timestamp[ns, tz=America/New_York]`, texts `dictionary` columns with the codes of
    the frame, conditions joined by commas. NaN stays NaN; only a time that is none is null. The
    schema's metadata tells `channel`, if it is given, and `position` and `epoch` to go on from.

    Raises AlpacaError if pyarrow is not installed.
    """
    try:
        import pyarrow as pa
    except ImportError as error:
        raise _missing("An Arrow table", "pyarrow") from error

    arrays = [_arrow_values(pa, rows, column) for column in rows.columns]
    told = {"position": str(rows.last), "epoch": str(rows.epoch)}
    if channel is not None:
        told["channel"] = channel
    return pa.table(arrays, names=[column.name for column in rows.columns], metadata=told)


def to_polars(rows: Snapshot) -> pl.DataFrame:
    """The rows as a `polars.DataFrame` with the columns of the frame, `timestamp` the first.

    Texts are `Categorical`; numbers and times are not copied. Raises AlpacaError if polars or
    pyarrow is not installed.
    """
    try:
        import polars as pl
    except ImportError as error:
        raise _missing("A polars DataFrame", "polars") from error
    frame = pl.from_arrow(to_arrow(rows))
    assert isinstance(frame, pl.DataFrame)
    return frame


def _arrow_values(pa: Any, rows: Snapshot, column: Column) -> Any:
    values = rows[column.name]
    if column.kind.is_coded:
        names = pa.array(rows.categories(column.name), pa.string())
        # Our codes are right; to check each of them would take longer than all the rest.
        return pa.DictionaryArray.from_arrays(pa.array(values), names, safe=False)
    if column.kind is Kind.TIME:
        return _arrow_times(pa, values)
    return pa.array(values)


def _arrow_times(pa: Any, times: AnyArray) -> Any:
    dtype = pa.timestamp("ns", TIME_ZONE)
    if len(times) and times.min() == _NOT_A_TIME:
        return pa.array(times.view("M8[ns]"), dtype)
    return pa.array(times).view(dtype)  # numpy's times would be looked through for nulls


def _missing(what: str, package: str) -> AlpacaError:
    return AlpacaError(
        f"{what} needs the package {package}, which is not installed: pip install {package}"
    )
