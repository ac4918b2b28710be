"""Files of market data in Alpaca's message shape: JSON lines, the same in gzip, and Parquet.

A line of JSON holds one message as it stood on the wire, or an array of them. A Parquet
file has one row a message and the wire's short keys as columns; its conditions are the
letters joined. What kind a file is shows in its first bytes, not in its name.
"""

from __future__ import annotations

import functools
import gzip
import operator
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

import msgspec

from alpaca_nb.errors import RecordingError
from alpaca_nb.wire.codec import times_ns
from alpaca_nb.wire.messages import (
    CHANNEL_OF,
    Error,
    Message,
    Quote,
    Subscription,
    Success,
    Trade,
)

_GZIP_MAGIC = b"\x1f\x8b"
_PARQUET_MAGIC = b"PAR1"
_READ_SIZE = 1 << 20
_ROWS_AT_ONCE = 1 << 15

_DATA_TYPES = tuple(CHANNEL_OF)
# What the server says about the conversation is in raw recordings too; it is passed over.
_ANY_TYPE: Any = functools.reduce(
    operator.or_,
    (Success, Error, Subscription, *(message_type[str] for message_type in _DATA_TYPES)),
)
_BLOCK: msgspec.json.Decoder[list[Any]] = msgspec.json.Decoder(cast(Any, list[_ANY_TYPE]))
_LINE: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_ANY_TYPE | list[_ANY_TYPE])

_EXPECTED = (
    'each line is one Alpaca stock message such as {"T":"t","S":"AAPL","p":231.4,"s":100,'
    '"t":"2026-09-21T13:30:00.5Z"}, or an array of them'
)


def read_recording(path: str | os.PathLike[str]) -> Iterator[Message[int]]:
    """The messages of a file, in the file's order, with integer times.

    Raises RecordingError with file, line and field: at once for what is no readable
    file, while iterating for what is wrong further down. Keys that Alpaca does not send
    are ignored; only the fields that a message cannot do without are required.
    """
    file = Path(path)
    start = _first_bytes(file)
    if start == _PARQUET_MAGIC:
        return _read_parquet(file)
    return _read_json_lines(file, compressed=start.startswith(_GZIP_MAGIC))


def _first_bytes(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            start = stream.read(len(_PARQUET_MAGIC))
    except FileNotFoundError:
        raise RecordingError(
            f"There is no file {file}; give the path of a recording (JSONL, JSONL.gz or Parquet).",
            path=str(file),
        ) from None
    except IsADirectoryError:
        raise RecordingError(
            f"{file} is a directory; give the path of one recording in it.", path=str(file)
        ) from None
    except OSError as error:
        raise RecordingError(f"{file} cannot be read: {error.strerror}.", path=str(file)) from error
    if not start:
        raise RecordingError(f"{file} is empty; {_EXPECTED}.", path=str(file))
    return start


# -- JSON lines --------------------------------------------------------------------------


def _read_json_lines(file: Path, *, compressed: bool) -> Iterator[Message[int]]:
    found = False
    for first_line, lines in _line_blocks(file, compressed=compressed):
        messages = _decode_lines(file, first_line, lines)
        found = found or bool(messages)
        yield from messages
    if not found:
        raise RecordingError(f"{file} holds no market data; {_EXPECTED}.", path=str(file))


def _line_blocks(file: Path, *, compressed: bool) -> Iterator[tuple[int, list[bytes]]]:
    """The file's lines in blocks, each with the number of its first line."""
    line = 1
    rest = b""
    with _open(file, compressed=compressed) as stream:
        while True:
            try:
                data = stream.read(_READ_SIZE)
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise RecordingError(
                    f"{file} is cut off or damaged somewhere after line {line - 1}: its "
                    "compressed data does not end as it should. Copy or download it again.",
                    path=str(file),
                    line=line,
                ) from error
            if not data:
                break
            *lines, rest = (rest + data).split(b"\n")
            if lines:
                yield line, lines
                line += len(lines)
    if rest.strip():
        yield line, [rest]


def _open(file: Path, *, compressed: bool) -> IO[bytes]:
    return cast(IO[bytes], gzip.GzipFile(file)) if compressed else file.open("rb")


def _decode_lines(file: Path, first_line: int, lines: Sequence[bytes]) -> list[Message[int]]:
    try:
        # One array is decoded several times as fast as its lines.
        messages = _BLOCK.decode(b"[" + b",".join(lines) + b"]")
        if len(messages) == len(lines):
            return _with_integer_times(messages)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
        pass  # an array on a line, a blank one, or something wrong: look at each
    found: list[Message[int]] = []
    for number, line in enumerate(lines, first_line):
        if line.strip():
            found += _decode_line(file, number, line)
    return found


def _decode_line(file: Path, number: int, line: bytes) -> list[Message[int]]:
    try:
        decoded = _LINE.decode(line)
        return _with_integer_times(decoded if isinstance(decoded, list) else [decoded])
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        reason = _explain(error, line)
    raise RecordingError(
        f"{file}, line {number}: {reason}; {_EXPECTED}.", path=str(file), line=number
    )


def _explain(error: Exception, line: bytes) -> str:
    """What is wrong with a line, naming the field by its key on the wire."""
    if isinstance(error, msgspec.ValidationError):
        text, _, where = str(error).partition(" - at `$")
        field = where.rstrip("`").rpartition(".")[2] if where else ""
        return f"field {field!r}: {_lower(text)}" if field else _lower(text)
    if isinstance(error, msgspec.DecodeError):
        return "it ends in mid-message" if "truncated" in str(error) else "it is not JSON"
    if isinstance(error, UnicodeDecodeError):
        return "it is not text in UTF-8"
    return f"field 't': {error}"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _with_integer_times(decoded: Iterable[Any]) -> list[Message[int]]:
    messages = [message for message in decoded if type(message) in CHANNEL_OF]
    times = times_ns([message.timestamp for message in messages])
    for message, time_ns in zip(messages, times.tolist(), strict=True):
        message.timestamp = time_ns
    return messages


# -- Parquet -----------------------------------------------------------------------------


def _read_parquet(file: Path) -> Iterator[Message[int]]:
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError as error:
        raise RecordingError(
            f"{file} is a Parquet file, which needs pyarrow: pip install 'alpaca-nb[parquet]'.",
            path=str(file),
        ) from error
    try:
        source = parquet.ParquetFile(file)
        names = set(source.schema_arrow.names)
        for name in ("T", "S", "t"):
            if name not in names:
                raise RecordingError(
                    f"{file} has no column {name!r}; a recording has one row a message and "
                    "Alpaca's keys (T, S, t, p, s, bp, ap, ...) as columns.",
                    path=str(file),
                )
        row = 1
        for batch in source.iter_batches(batch_size=_ROWS_AT_ONCE):
            yield from _ParquetBlock(arrow, file, row, batch).messages()
            row += len(batch)
    except (arrow.ArrowException, OSError) as error:
        raise RecordingError(
            f"{file} is cut off or damaged: {str(error).splitlines()[0]}", path=str(file)
        ) from error
    if row == 1:
        raise RecordingError(f"{file} holds no market data: it has no rows.", path=str(file))


class _ParquetBlock:
    """Some rows of a Parquet file, as columns of Python values."""

    def __init__(self, arrow: Any, file: Path, first_row: int, batch: Any) -> None:
        self._file = file
        self._first_row = first_row
        self._size = len(batch)
        self._columns: dict[str, list[Any]] = {}
        text, whole, real = arrow.string(), arrow.int64(), arrow.float64()
        kinds = dict.fromkeys(("T", "S", "x", "bx", "ax", "z", "c"), text)
        kinds |= dict.fromkeys(("i", "s", "bs", "as"), whole)
        kinds |= dict.fromkeys(("p", "bp", "ap"), real)
        present = set(batch.schema.names)
        for name in kinds.keys() & present:
            self._columns[name] = self._cast(arrow, batch.column(name), name, kinds[name])
        times = batch.column("t")
        if not arrow.types.is_timestamp(times.type):
            raise self._error(0, f"column 't' is {times.type}, and must be a UTC timestamp")
        moments = times.cast(arrow.timestamp("ns", times.type.tz))
        self._columns["t"] = moments.cast(whole).to_pylist()

    def messages(self) -> Iterator[Message[int]]:
        """One message a row."""
        makers: dict[str | None, Callable[[int], Message[int]]] = {
            "q": self._quotes(),
            "t": self._trades(),
        }
        for row, tag in enumerate(self._columns["T"]):
            make = makers.get(tag)
            if make is None:
                raise self._error(
                    row, f"field 'T': {tag!r} is not a type that Parquet recordings hold (q or t)"
                )
            yield make(row)

    def _quotes(self) -> Callable[[int], Message[int]]:
        symbol, time = self._required("S"), self._required("t")
        bid, ask = self._required("bp"), self._required("ap")
        bid_size, ask_size = self._optional("bs", 0), self._optional("as", 0)
        bid_exchange, ask_exchange = self._optional("bx", ""), self._optional("ax", "")
        tape, conditions = self._optional("z", ""), self._optional("c", "")

        def make(row: int) -> Message[int]:
            return Quote(
                symbol=symbol(row),
                bid_exchange=bid_exchange(row),
                bid_price=bid(row),
                bid_size=bid_size(row),
                ask_exchange=ask_exchange(row),
                ask_price=ask(row),
                ask_size=ask_size(row),
                conditions=list(conditions(row)),
                tape=tape(row),
                timestamp=time(row),
            )

        return make

    def _trades(self) -> Callable[[int], Message[int]]:
        symbol, time = self._required("S"), self._required("t")
        price, size = self._required("p"), self._required("s")
        trade_id, exchange = self._optional("i", 0), self._optional("x", "")
        tape, conditions = self._optional("z", ""), self._optional("c", "")

        def make(row: int) -> Message[int]:
            return Trade(
                symbol=symbol(row),
                trade_id=trade_id(row),
                exchange=exchange(row),
                price=price(row),
                size=size(row),
                conditions=list(conditions(row)),
                tape=tape(row),
                timestamp=time(row),
            )

        return make

    def _required(self, name: str) -> Callable[[int], Any]:
        values = self._columns.get(name)

        def get(row: int) -> Any:
            value = values[row] if values is not None else None
            if value is None:
                tag = self._columns["T"][row]
                raise self._error(row, f"field {name!r} is missing, and a {tag!r} needs it")
            return value

        return get

    def _optional(self, name: str, default: Any) -> Callable[[int], Any]:
        values = self._columns.get(name)
        if values is None:
            return lambda row: default
        filled = [default if value is None else value for value in values]
        return filled.__getitem__

    def _cast(self, arrow: Any, column: Any, name: str, kind: Any) -> list[Any]:
        try:
            return cast(list[Any], column.cast(kind).to_pylist())
        except arrow.ArrowException as error:
            raise self._error(0, f"column {name!r} is {column.type}, and must be {kind}") from error

    def _error(self, row: int, reason: str) -> RecordingError:
        number = self._first_row + row
        return RecordingError(
            f"{self._file}, row {number}: {reason}.", path=str(self._file), line=number
        )
