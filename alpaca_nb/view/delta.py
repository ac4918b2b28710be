"""What changed since a cursor, as a small header and one buffer of columns.

Pure: rows of one moment in, bytes out. docs/formats.md describes both for the browser's side.
The buffer is immutable `bytes`, because it is read later, by the thread that writes the socket.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from alpaca_nb.data.columns import AnyArray, Kind, Snapshot

TAPE_ROWS = 2_000
"""A message about a tape carries at most this many rows: more than anybody reads in a frame."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """What a browser has been told so far."""

    epoch: int
    position: int
    categories: Mapping[str, int]
    """Per coded column, how many of its strings are known there."""


@dataclass(frozen=True, slots=True)
class Delta:
    """One message: its header (all but `kind` and `seq`), its buffer, and where it leads."""

    kind: Literal["snapshot", "delta"]
    header: dict[str, Any]
    buffer: bytes
    cursor: Cursor

    @property
    def rows(self) -> int:
        """Rows in the buffer."""
        return int(self.header["rows"])

    @property
    def skipped(self) -> int:
        """Rows on the way that are not in the buffer."""
        return int(self.header["skipped"])


def tape(
    now: Snapshot,
    cursor: Cursor | None,
    *,
    limit: int = TAPE_ROWS,
    columns: Collection[str] | None = None,
) -> Delta | None:
    """The rows appended since the cursor, the newest `limit` of them; None if there are none.

    Without a cursor, or with one of an earlier epoch, a snapshot of the newest rows.
    `columns` names those to send; all by default.
    """
    cursor = _valid(cursor, now.epoch)
    if cursor is None:
        rows = now.tail(limit)
        return _message("tape", rows, None, base=rows.first, columns=columns)
    if now.last <= cursor.position:
        return None
    rows = now.since(cursor.position).tail(limit)
    return _message("tape", rows, cursor, base=cursor.position, columns=columns)


def keyed(
    changed: Snapshot, cursor: Cursor | None, *, columns: Collection[str] | None = None
) -> Delta | None:
    """The newest row of each symbol that has one since the cursor; None if there are none.

    `changed` holds one row per symbol, of the symbols that changed since the cursor (of all,
    for a snapshot). The caller asks for them with `start_of`.
    """
    cursor = _valid(cursor, changed.epoch)
    if cursor is None:
        return _message("keyed", changed, None, base=changed.last, columns=columns)
    if changed.last <= cursor.position:
        return None
    return _message("keyed", changed, cursor, base=cursor.position, columns=columns)


def start_of(cursor: Cursor | None, epoch: int) -> int:
    """The position from which a view has to be told rows."""
    cursor = _valid(cursor, epoch)
    return cursor.position if cursor else 0


def _valid(cursor: Cursor | None, epoch: int) -> Cursor | None:
    """A cursor of another epoch is worth nothing: rows before it have changed."""
    return cursor if cursor is not None and cursor.epoch == epoch else None


def _message(
    shape: Literal["keyed", "tape"],
    rows: Snapshot,
    cursor: Cursor | None,
    *,
    base: int,
    columns: Collection[str] | None,
) -> Delta:
    known = cursor.categories if cursor else {}
    described, parts, size = [], [], 0
    news, lengths = {}, {}
    for column in rows.columns:
        if columns is not None and column.name not in columns:
            continue
        dtype, part = _encode(rows[column.name], column.kind)
        described.append({"name": column.name, "dtype": dtype, "offset": size})
        parts.append(part)
        size += len(part)
        if column.kind.is_coded:
            names = rows.categories(column.name)
            start = known.get(column.name, 0)
            lengths[column.name] = len(names)
            if len(names) > start or cursor is None:
                news[column.name] = {"from": start, "names": list(names[start:])}
    header = {
        "epoch": rows.epoch,
        "shape": shape,
        "base": base,
        "position": rows.last,
        "rows": len(rows),
        "skipped": max(rows.last - base - len(rows), 0),
        "columns": described,
        "categories": news,
    }
    kind: Literal["snapshot", "delta"] = "snapshot" if cursor is None else "delta"
    return Delta(kind, header, b"".join(parts), Cursor(rows.epoch, rows.last, lengths))


_NOT_A_TIME: Final = np.iinfo(np.int64).min
"""How numpy and pandas spell a missing time in int64."""


def _encode(values: AnyArray, kind: Kind) -> tuple[str, bytes]:
    """A column's type in the browser, and its bytes, padded to a multiple of eight."""
    if kind is Kind.TIME:
        # A double holds these milliseconds to a quarter of a microsecond.
        milliseconds = values.astype("<f8") / 1e6
        milliseconds[values == _NOT_A_TIME] = np.nan
        return "time", milliseconds.tobytes()
    if kind.is_coded:
        codes = values.astype("<i4")
        return "category", codes.tobytes() + bytes(4 * (len(codes) % 2))
    if kind is Kind.IDENTIFIER:
        return "uint64", values.astype("<u8").tobytes()
    return "float64", values.astype("<f8").tobytes()
