"""Files of market data, good and bad."""

from __future__ import annotations

import builtins
import gzip
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alpaca_nb.errors import RecordingError
from alpaca_nb.sim.recording import read_recording
from alpaca_nb.wire.messages import Bar, Quote, Trade

TRADE = (
    b'{"T":"t","S":"AAPL","i":7,"x":"V","p":184.215,"s":40,"c":["@","I"],"z":"C",'
    b'"t":"2026-09-21T14:13:20.535000001Z"}'
)
QUOTE = (
    b'{"T":"q","S":"AMD","bx":"U","bp":161.44,"bs":300,"ax":"Q","ap":161.47,"as":100,'
    b'"c":["R"],"z":"C","t":"2026-09-21T14:13:20.535Z"}'
)
BAR = b'{"T":"b","S":"SPY","o":661,"h":662,"l":660,"c":661.5,"v":9,"t":"2026-09-21T14:13:00Z"}'
A_TRADE = Trade(
    symbol="AAPL",
    trade_id=7,
    exchange="V",
    price=184.215,
    size=40,
    conditions=["@", "I"],
    tape="C",
    timestamp=1790000000535000001,
)

REAL_DATA = os.environ.get("ALPACA_NB_REAL_DATA")


def write(folder: Path, content: bytes, name: str = "tape.jsonl") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def write_parquet(folder: Path, **columns: object) -> Path:
    path = folder / "tape.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def times(*values: int) -> pa.Array:
    return pa.array(values, pa.timestamp("ns", "UTC"))


def refusal(path: Path) -> RecordingError:
    """The error that reading the file ends with; it always names the file."""
    with pytest.raises(RecordingError) as caught:
        list(read_recording(path))
    assert str(path) in str(caught.value)
    assert caught.value.path == str(path)
    return caught.value


def test_lines_become_messages_in_the_files_order(tmp_path):
    """Whatever their times, messages come in the order in which they stand."""
    path = write(tmp_path, b"\n".join([TRADE, QUOTE, BAR]) + b"\n")
    trade, quote, bar = read_recording(path)
    assert trade == A_TRADE
    assert isinstance(quote, Quote)
    assert (quote.ask_price, quote.timestamp) == (161.47, 1790000000535000000)
    assert isinstance(bar, Bar)
    assert (bar.open, bar.trade_count) == (661.0, 0)


@pytest.mark.parametrize(
    "content",
    [
        TRADE + b"\n" + QUOTE,
        TRADE + b"\r\n" + QUOTE + b"\r\n",
        TRADE + b"\n\n" + QUOTE + b"\n\n",
        b"[" + TRADE + b"," + QUOTE + b"]\n",
        b"[" + TRADE + b"]\n[]\n[" + QUOTE + b"]",
        b'[{"T":"success","msg":"connected"}]\n' + TRADE + b"\n" + QUOTE,
    ],
    ids=["no end", "crlf", "blank lines", "array", "arrays", "control messages"],
)
def test_each_way_to_write_two_messages(tmp_path, content):
    """One message a line or an array of them; blank lines and control messages are passed over."""
    kinds = [type(message) for message in read_recording(write(tmp_path, content))]
    assert kinds == [Trade, Quote]


def test_gzip_is_seen_by_content(tmp_path):
    """A file is what its first bytes say, whatever its name."""
    path = write(tmp_path, gzip.compress(TRADE), "tape.json")
    assert list(read_recording(path)) == [A_TRADE]


def test_a_long_file_is_read_in_pieces(tmp_path):
    """Lines that span two pieces of the file are put together, and counted right."""
    path = write(tmp_path, (TRADE + b"\n") * 20_000 + b"oops\n")
    messages = read_recording(path)
    assert next(messages) == A_TRADE
    with pytest.raises(RecordingError, match="line 20001") as caught:
        list(messages)
    assert caught.value.line == 20_001


def test_optional_fields_may_be_missing(tmp_path):
    """Old recordings have no venues and no quote sizes."""
    path = write(
        tmp_path, b'{"T":"q","S":"GOOG","bp":720.5,"ap":720.93,"t":"2016-05-25T13:30:00.023Z"}'
    )
    (quote,) = read_recording(path)
    assert isinstance(quote, Quote)
    assert (quote.bid_size, quote.bid_exchange, quote.conditions) == (0, "", [])


def test_offsets_and_unknown_keys_are_read(tmp_path):
    """Times may have another offset than Z, and keys may be there that we do not know."""
    path = write(
        tmp_path, b'{"T":"t","S":"A","p":1,"s":1,"t":"2026-09-21T10:13:20-04:00","new":{"x":1}}'
    )
    (trade,) = read_recording(path)
    assert trade.timestamp == 1_790_000_000_000_000_000


@pytest.mark.parametrize(
    ("line", "field", "reason"),
    [
        (b'{"T":"t","S":"A","s":1,"t":"2026-09-21T14:13:20Z"}', "p", "missing"),
        (b'{"T":"t","S":"A","p":"1","s":1,"t":"2026-09-21T14:13:20Z"}', "'p'", "float"),
        (b'{"T":"q","S":"A/B","bp":1,"ap":2,"bs":0.5,"t":"2026-09-21T14:13:20Z"}', "'bs'", "int"),
        (b'{"T":"t","S":"A","p":1,"s":1,"t":"yesterday"}', "'t'", "yesterday"),
        (b'{"T":"t","S":"A","p":1,"s":1,"t":1790000000}', "'t'", "str"),
        (b'{"T":"n","headline":"x"}', "'T'", "n"),
        (b'{"S":"A","p":1}', "T", "missing"),
        (b'"text"', "", "expected"),
        (b'{"T":"t","S":"A"', "", "mid-message"),
        (b"Date,Open,High", "", "not JSON"),
        (b"\xff\xfe\x00", "", "not JSON"),
        (b'{"T":"t","S":"\xff","p":1,"s":1,"t":"2026-09-21T14:13:20Z"}', "", "UTF-8|JSON"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, field, reason):
    """The error says which line, which field, what is wrong, and what was expected."""
    error = refusal(write(tmp_path, TRADE + b"\n" + line + b"\n" + TRADE))
    assert error.line == 2
    assert "line 2" in str(error)
    assert field in str(error)
    assert any(word in str(error) for word in reason.split("|"))
    assert "each line is one Alpaca stock message" in str(error)


def test_a_truncated_last_line_is_named(tmp_path):
    """A file that was cut off while it was written says so."""
    error = refusal(write(tmp_path, QUOTE + b"\n" + TRADE[:50]))
    assert error.line == 2
    assert "mid-message" in str(error)


def test_a_truncated_gzip_is_named(tmp_path):
    """A download that stopped half-way says so."""
    compressed = gzip.compress(b"\n".join(TRADE.replace(b"7", b"%d" % n) for n in range(5000)))
    error = refusal(write(tmp_path, compressed[: len(compressed) // 2], "tape.jsonl.gz"))
    assert "cut off or damaged" in str(error)


def test_a_damaged_gzip_is_named(tmp_path):
    """A flipped byte in the middle is an error, not other data."""
    compressed = bytearray(gzip.compress(TRADE * 100))
    compressed[len(compressed) // 2] ^= 0xFF
    assert "damaged" in str(refusal(write(tmp_path, bytes(compressed))))


def test_no_file_no_recording(tmp_path):
    """A missing file, a directory, an empty file, one without messages: each says so at once."""
    assert "no file" in str(refusal(tmp_path / "none.jsonl"))
    assert "directory" in str(refusal(tmp_path))
    assert "empty" in str(refusal(write(tmp_path, b"")))
    assert "no market data" in str(refusal(write(tmp_path, b"\n\n")))
    assert "no market data" in str(refusal(write(tmp_path, gzip.compress(b""))))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_a_file_that_may_not_be_read_is_named(tmp_path):
    """Missing rights are said as the system says them."""
    path = write(tmp_path, TRADE)
    path.chmod(0)
    assert "ermission" in str(refusal(path))


def test_parquet_has_one_row_a_message(tmp_path):
    """Columns are Alpaca's keys; conditions are the letters joined; null is absent."""
    path = write_parquet(
        tmp_path,
        T=["t", "q"],
        S=["AAPL", "AMD"],
        t=times(1790000000535000001, 1790000000535000002),
        i=[7, None],
        x=["V", None],
        p=[184.215, None],
        s=[40, None],
        c=["@I", "R"],
        z=["C", None],
        bp=[None, 161.44],
        ap=[None, 161.47],
    )
    trade, quote = read_recording(path)
    assert trade == A_TRADE
    assert quote == Quote(
        symbol="AMD",
        bid_price=161.44,
        ask_price=161.47,
        conditions=["R"],
        timestamp=1790000000535000002,
    )


def test_parquet_spaces_are_conditions(tmp_path):
    """A space in the joined conditions is the regular sale, and stays."""
    path = write_parquet(tmp_path, T=["t"], S=["F"], t=times(1), p=[1.0], s=[1], c=[" T"])
    (trade,) = read_recording(path)
    assert isinstance(trade, Trade)
    assert trade.conditions == [" ", "T"]


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"T": ["t"], "S": ["A"]}, "no column 't'"),
        ({"T": ["t"], "S": ["A"], "t": [1], "p": [1.0], "s": [1]}, "column 't' is int64"),
        ({"T": ["t"], "S": ["A"], "t": times(1), "p": ["x"], "s": [1]}, "column 'p' is string"),
        ({"T": ["t"], "S": ["A"], "t": times(1), "s": [1]}, "row 1: field 'p' is missing"),
        ({"T": ["t"], "S": [None], "t": times(1), "p": [1.0], "s": [1]}, "field 'S' is missing"),
        ({"T": ["b"], "S": ["A"], "t": times(1)}, "row 1: field 'T': 'b'"),
        ({"T": pa.array([], "string"), "S": pa.array([], "string"), "t": times()}, "no rows"),
    ],
)
def test_a_wrong_parquet_file_is_explained(tmp_path, columns, reason):
    """The error names the column, or the row and the field."""
    assert reason in str(refusal(write_parquet(tmp_path, **columns)))


def test_a_truncated_parquet_file_is_named(tmp_path):
    """Half a Parquet file is no Parquet file."""
    path = write_parquet(tmp_path, T=["t"], S=["A"], t=times(1), p=[1.0], s=[1])
    path.write_bytes(path.read_bytes()[:-20])
    assert "cut off or damaged" in str(refusal(path))


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    """The one optional dependency is named with the command that brings it."""
    path = write_parquet(tmp_path, T=["t"], S=["A"], t=times(1), p=[1.0], s=[1])
    real_import = builtins.__import__

    def without_pyarrow(name, *args, **kwargs):
        if name.partition(".")[0] == "pyarrow":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_pyarrow)
    assert "pip install" in str(refusal(path))


@pytest.mark.realdata
@pytest.mark.skipif(REAL_DATA is None, reason="ALPACA_NB_REAL_DATA is not set")
class TestRealFiles:
    """The private recordings, where they are."""

    def test_jsonl_has_every_message(self):
        """The 35 minutes around an open have 78,117 quotes and 58,645 trades."""
        path = Path(str(REAL_DATA)) / "lean_ticks_20131007_open35m.jsonl.gz"
        kinds = [type(message) for message in read_recording(path)]
        assert (kinds.count(Quote), kinds.count(Trade)) == (78_117, 58_645)

    def test_parquet_has_the_same_messages(self):
        """The same 35 minutes out of the whole day's Parquet file are equal."""
        folder = Path(str(REAL_DATA))
        lines = list(read_recording(folder / "lean_ticks_20131007_open35m.jsonl.gz"))
        first, last = lines[0].timestamp, lines[-1].timestamp
        rows = [
            message
            for message in read_recording(folder / "lean_ticks_20131007.parquet")
            if first <= message.timestamp <= last
        ]
        assert rows == lines

    def test_what_is_not_for_stocks_is_refused(self):
        """Crypto sizes are fractions; the stock feeds have none."""
        error = refusal(Path(str(REAL_DATA)) / "crypto_btcusdt_20240808.jsonl.gz")
        assert (error.line, "'bs'" in str(error)) == (1, True)

    def test_missing_fields_are_tolerated(self):
        """Ticks without venues and sizes are read."""
        path = Path(str(REAL_DATA)) / "pandas_ticks_20160525.jsonl"
        assert len(list(read_recording(path))) == 43
