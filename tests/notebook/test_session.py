"""What runs in a kernel: streams by feed, frames by name, the simulator where there are no keys."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import alpaca_nb as anb
from alpaca_nb.errors import AuthenticationError, BadInputError, ConnectError, CredentialsError
from alpaca_nb.notebook.session import Session, describe_stream


@pytest.fixture
def session() -> Iterator[Session]:
    """A session that ends with the test."""
    running = Session()
    yield running
    running.close()


def test_without_keys_there_is_the_simulator(session: Session) -> None:
    """Subscribing connects to a simulator, and everything says so."""
    frame = session.subscribe("quotes", ["AAPL", "MSFT"])
    frame.wait(10)
    assert frame.status.origin == "simulated"
    assert "SIMULATED" in str(session.status())
    assert set(frame.df["source"]) == {"simulated"}
    assert "AAPL" in session.known_symbols
    assert "SPY" in session.known_symbols


def test_the_same_cell_again_is_the_same_frame(session: Session) -> None:
    """A name is one frame; what it lacks is added, and nothing is subscribed twice."""
    frame = session.subscribe("quotes", "AAPL")
    assert session.subscribe("quotes", "AAPL") is frame
    assert session.subscribe("quotes", "TSLA") is frame
    assert frame.symbols == ("AAPL", "TSLA")
    other = session.subscribe("quotes", "AAPL", name="apple")
    assert other is not frame
    assert set(session.frames) == {"quotes", "apple"}
    with pytest.raises(BadInputError, match="--as"):
        session.subscribe("trades", "AAPL", name="apple")
    with pytest.raises(BadInputError, match="variable"):
        session.subscribe("quotes", "AAPL", name="my quotes")


def test_unsubscribing(session: Session) -> None:
    """Symbols leave one by one; the last closes the frame, whose rows stay."""
    frame = session.subscribe("trades", ["AAPL", "MSFT"])
    frame.wait(5)
    assert session.unsubscribe("trades", "MSFT") is frame
    assert frame.symbols == ("AAPL",)
    with pytest.raises(BadInputError, match="has no MSFT"):
        session.unsubscribe("trades", "MSFT")
    session.unsubscribe("trades")
    assert frame.closed
    assert len(frame) >= 5
    with pytest.raises(BadInputError, match="no frame 'trades'"):
        session.unsubscribe("trades")
    assert session.subscribe("trades", "AAPL") is not frame


def test_disconnect_and_connect_go_on(session: Session) -> None:
    """Frames outlive a disconnect and receive again after connect."""
    frame = session.subscribe("quotes", "AAPL")
    frame.wait(5)
    session.disconnect()
    assert frame.status.state == "stopped"
    assert not frame.closed
    count = frame.position
    session.connect()
    frame.wait(count + 5)
    with pytest.raises(BadInputError, match="'sip' is not connected"):
        session.disconnect("sip")


def test_status_tells_what_is_pending_and_refused(session: Session) -> None:
    """A report holds streams and frames at one moment."""
    assert "Not connected" in str(session.status())
    session.subscribe("quotes", "AAPL").wait(5)
    (report,) = session.status().frames
    assert (report.name, report.channel, report.feed) == ("quotes", "quotes", "iex")
    assert report.symbols == ("AAPL",)
    assert report.pending == ()
    assert report.rows >= 5


def test_wrong_keys_never_fall_back(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """With keys that the server refuses, nothing is simulated and nothing is left."""
    with anb.LocalSimulator(key="K", secret="S") as server:
        monkeypatch.setenv("ALPACA_NB_STREAM_URL", server.url)
        monkeypatch.setenv("APCA_API_KEY_ID", "WRONG0000")
        monkeypatch.setenv("APCA_API_SECRET_KEY", "WRONG0000")
        with pytest.raises(AuthenticationError):
            session.subscribe("quotes", "AAPL")
        assert session.frames == {}
        assert session.status().streams == ()
        monkeypatch.setenv("APCA_API_KEY_ID", "K")
        monkeypatch.setenv("APCA_API_SECRET_KEY", "S")
        session.subscribe("quotes", "AAPL").wait(5)


def test_half_a_pair_of_keys(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lone key is an error, not a reason to simulate."""
    monkeypatch.setenv("APCA_API_KEY_ID", "K")
    with pytest.raises(CredentialsError):
        session.connect()


def test_a_simulator_of_this_machine_needs_no_keys(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address alone is enough for a server on loopback."""
    with anb.LocalSimulator() as server:
        monkeypatch.setenv("ALPACA_NB_STREAM_URL", server.url)
        assert session.connect().is_connected
        with pytest.raises(BadInputError, match="another address"):
            session.connect(url="ws://127.0.0.1:1/v2/iex")
    monkeypatch.setenv("ALPACA_NB_STREAM_URL", "ws://192.0.2.1:8765")
    with pytest.raises(CredentialsError):
        Session().connect()


def test_no_server_leaves_nothing(
    session: Session, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    """A failed connection is not remembered as one."""
    monkeypatch.setenv("ALPACA_NB_STREAM_URL", f"ws://127.0.0.1:{unused_tcp_port}")
    with pytest.raises(ConnectError):
        session.connect()
    assert session.status().streams == ()
    session.raise_if_failed()


def test_a_stream_is_described_in_one_line() -> None:
    """State, origin and reason, and nothing that changes by itself."""
    status = anb.StreamStatus(state="failed", feed="sip", origin="replay", detail="Why.")
    assert describe_stream(status) == "sip (REPLAY) failed: Why."
