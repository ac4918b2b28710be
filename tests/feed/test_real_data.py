"""Thirty-five real minutes through the simulator's socket into frames: every row, every field."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest

import alpaca_nb as anb

FILE = "lean_ticks_20131007_open35m.jsonl.gz"
MESSAGES = 136_762

QUOTE_FIELDS = {
    "S": "symbol", "bx": "bid_exchange", "bp": "bid_price", "bs": "bid_size",
    "ax": "ask_exchange", "ap": "ask_price", "as": "ask_size", "c": "conditions", "z": "tape",
}  # fmt: skip
TRADE_FIELDS = {
    "S": "symbol", "i": "trade_id", "x": "exchange", "p": "price", "s": "size",
    "c": "conditions", "z": "tape",
}  # fmt: skip


@pytest.fixture(scope="module")
def expected(real_data: Path) -> dict[str, pd.DataFrame]:
    """The file's rows by message type, read with nothing of ours."""
    with gzip.open(real_data / FILE, "rt") as lines:
        messages = [json.loads(line) for line in lines]
    assert len(messages) == MESSAGES
    return {
        "quotes": _as_frame([m for m in messages if m["T"] == "q"], QUOTE_FIELDS),
        "trades": _as_frame([m for m in messages if m["T"] == "t"], TRADE_FIELDS),
    }


def _as_frame(messages: list[dict[str, Any]], fields: dict[str, str]) -> pd.DataFrame:
    index = (
        pd.DatetimeIndex([m["t"] for m in messages]).as_unit("ns").tz_convert("America/New_York")
    )
    columns = {name: [m[key] for m in messages] for key, name in fields.items()}
    columns["conditions"] = [",".join(each) for each in columns["conditions"]]
    return pd.DataFrame(columns, index=index.rename("timestamp"))


@pytest.mark.realdata
@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_frames_equal_the_file(
    real_data: Path, expected: dict[str, pd.DataFrame], codec: Literal["json", "msgpack"]
) -> None:
    """Played as fast as it goes, nothing is lost, nothing comes twice, nothing is changed."""
    with anb.LocalSimulator(play=real_data / FILE, speed=0) as simulator:
        api = anb.PyAlpacaAPI("K", "S")
        url = simulator.url + "/v2/sip"
        with api.create_stream_client(feed="sip", url=url, codec=codec) as stream:
            frames = {name: stream.frame(name, "*") for name in expected}
            for name, frame in frames.items():
                frame.wait(len(expected[name]), timeout=60)
            assert stream.status.received == MESSAGES
            assert stream.status.origin == "replay"
    for name, frame in frames.items():
        assert (frame.stats.rejected, frame.stats.duplicates) == (0, 0)
        ours = frame.df
        assert set(ours["source"]) == {"replay"}
        theirs = expected[name]
        pd.testing.assert_frame_equal(
            ours[theirs.columns.tolist()],
            theirs,
            check_categorical=False,
            check_dtype=False,
        )
