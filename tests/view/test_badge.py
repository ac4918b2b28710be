"""The numbers of the badge."""

from __future__ import annotations

import json

from alpaca_nb.data.status import StreamStatus
from alpaca_nb.view.badge import badge

NOW = 1_790_000_000_000_000_000


def test_times_are_told_as_ages() -> None:
    """The browser's clock need not agree with ours, so it is told an age."""
    status = StreamStatus(state="live", feed="iex", last_received_ns=NOW - 1_500_000_000)
    assert badge(status, now_ns=NOW)["age_s"] == 1.5


def test_an_age_is_never_negative() -> None:
    """A clock that was set back does not make a message come from the future."""
    status = StreamStatus(state="live", feed="iex", last_received_ns=NOW + 1)
    assert badge(status, now_ns=NOW)["age_s"] == 0


def test_what_is_unknown_stays_unknown() -> None:
    """No data yet is not an age of zero, and no lag is not a lag of zero."""
    told = badge(StreamStatus(state="connecting", feed="sip"), now_ns=NOW)
    assert told["age_s"] is None
    assert told["lag_s"] is None


def test_the_origin_and_the_reason_are_told() -> None:
    """Simulated data and errors reach whoever looks, in words that JSON can carry."""
    status = StreamStatus(state="failed", feed="iex", origin="simulated", detail="Wrong keys.")
    told = json.loads(json.dumps(badge(status, now_ns=NOW, coalesced=7)))
    assert (told["state"], told["origin"], told["detail"]) == ("failed", "simulated", "Wrong keys.")
    assert told["coalesced"] == 7
