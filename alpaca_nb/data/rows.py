"""Rows as they are handed in: a snapshot of a frame or a DataFrame made of one, read alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from alpaca_nb.data.columns import AnyArray, Snapshot
from alpaca_nb.errors import BadInputError

if TYPE_CHECKING:
    import pandas as pd


class Columns(Protocol):
    """Columns by name: times as nanoseconds, texts as codes. A `Snapshot` is one."""

    def __getitem__(self, name: str, /) -> AnyArray:
        """The values of a column."""
        ...

    def categories(self, name: str) -> tuple[str, ...]:
        """The texts behind the codes of a column."""
        ...

    def code(self, name: str, category: str) -> int:
        """The code of a text, or -1 if there is none."""
        ...


TRADES: Final = ("timestamp", "symbol", "price", "size", "conditions", "tape", "amended")
"""What of trades decides on candles and measures."""
QUOTES: Final = ("timestamp", "symbol", "bid_price", "ask_price")
"""What of quotes a trade is compared with."""


def columns_in(rows: Snapshot | pd.DataFrame, names: tuple[str, ...], what: str) -> Columns:
    """The columns of a snapshot or DataFrame; BadInputError if these are not among them."""
    if isinstance(rows, Snapshot):
        there = {column.name for column in rows.columns}
        columns: Columns = rows
    else:
        there = {str(name) for name in getattr(rows, "columns", ())}
        if getattr(getattr(rows, "index", None), "dtype", np.dtype(int)).kind == "M":
            there.add("timestamp")
        columns = _FrameColumns(rows)
    missing = [name for name in names if name not in there]
    if missing:
        raise BadInputError(
            f"These are no {what}: there is no {', '.join(missing)}. Take the rows of a frame of "
            f"{what}, such as frame.df or frame.snapshot()."
        )
    return columns


class _FrameColumns:
    """Those of a DataFrame with the columns of a frame, indexed by time."""

    def __init__(self, df: pd.DataFrame) -> None:
        self._df = df
        self._coded: dict[str, pd.Categorical] = {}

    def __getitem__(self, name: str) -> AnyArray:
        if name == "timestamp":
            # Times without a zone are UTC; `asi8` of those with one is, too.
            times: Any = self._df.index
            return np.asarray(times.as_unit("ns").asi8)
        if name in _TEXTS:
            return np.asarray(self._texts(name).codes)
        return self._df[name].to_numpy()

    def categories(self, name: str) -> tuple[str, ...]:
        return tuple(self._texts(name).categories)

    def code(self, name: str, category: str) -> int:
        names = self.categories(name)
        return names.index(category) if category in names else -1

    def _texts(self, name: str) -> pd.Categorical:
        if name not in self._coded:
            import pandas as pd

            texts = self._df[name]
            if texts.isna().any():
                texts = texts.astype("object").fillna("")
            self._coded[name] = pd.Categorical(texts)
        return self._coded[name]


_TEXTS: Final = {"symbol", "conditions", "tape", "amended"}
