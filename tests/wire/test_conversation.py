"""Any conversation at all: both sides wired together, and a client alone with a liar."""

from __future__ import annotations

import contextlib
from collections import deque
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from alpaca_nb.credentials import Credentials, Secret
from alpaca_nb.errors import ProtocolError
from alpaca_nb.wire.codec import CODECS, Codec
from alpaca_nb.wire.endpoints import ENDPOINTS
from alpaca_nb.wire.messages import CHANNELS, Error, Quote, Subscription, Success
from alpaca_nb.wire.protocol import ClientEvent, ClientProtocol, ErrorReceived, ServerProtocol
from alpaca_nb.wire.subscriptions import (
    SYMBOLS_PER_REQUEST,
    SubscriptionsChanged,
    SubscriptionsRefused,
)

CREDENTIALS = Credentials(Secret("K"), Secret("S"))
ASKABLE = [name for name, channel in CHANNELS.items() if not channel.automatic]
KEYS = {channel.key for channel in CHANNELS.values() if not channel.automatic}
POOL = [f"S{i:03}" for i in range(260)]

channels = st.sampled_from([*ASKABLE, "trades", "quotes", "trades", "quotes"])
few = st.lists(st.sampled_from([*POOL[:8], "*"]), max_size=4)
many = st.integers(0, 200).flatmap(
    lambda start: st.integers(1, 260).map(lambda count: POOL[start : start + count])
)
symbols = few | many


def pairs(subscriptions: dict[str, frozenset[str]]) -> set[tuple[str, str]]:
    """What can be asked for, one by one."""
    return {(name, each) for name in ASKABLE for each in subscriptions.get(name, ())}


class Conversation(RuleBasedStateMachine):
    """What holds whoever is on the other side."""

    def __init__(self) -> None:
        super().__init__()
        self.codec: Codec = CODECS["json"]
        self.make_client()

    def make_client(self) -> None:
        self.client = ClientProtocol(self.codec, CREDENTIALS)
        self.sent: dict[str, frozenset[str]] = {}

    def take(self, most: int) -> list[bytes]:
        """What the client sends; of its changes there may be so many."""
        frames = self.client.data_to_send()
        changes = 0
        for frame in frames:
            codec = CODECS["json" if frame.startswith(b"{") else "msgpack"]
            request = codec.decode_request(frame)
            action = request.pop("action")
            if action != "auth":
                changes += 1
                assert request.keys() <= KEYS
                assert 0 < sum(map(len, request.values())) <= SYMBOLS_PER_REQUEST
                assert all(request.values())
        assert changes <= most
        return frames

    def check(self, events: list[ClientEvent]) -> None:
        """Changes are told without a hole, and refusals only of what was not known as refused."""
        for event in events:
            if isinstance(event, SubscriptionsChanged):
                for name in CHANNELS:
                    before = self.sent.get(name, frozenset())
                    added = event.added.get(name, frozenset())
                    removed = event.removed.get(name, frozenset())
                    assert not added & before
                    assert removed <= before
                    assert (before | added) - removed == event.confirmed.get(name, frozenset())
                self.sent = event.confirmed
            elif isinstance(event, SubscriptionsRefused):
                assert pairs(event.refused)

    @invariant()
    def only_what_is_wanted_is_refused(self) -> None:
        """`refused` holds nothing that is not wanted, and nothing that is confirmed."""
        refused = set(self.client.refused)
        assert refused <= pairs(self.client.wanted)
        assert not refused & pairs(self.client.confirmed)

    @invariant()
    def states_agree(self) -> None:
        """The state of one symbol is what the sets say."""
        confirmed = pairs(self.client.confirmed)
        for name, symbol in [*self.client.refused][:5]:
            assert self.client.state(name, symbol) == "refused"
        for name, symbol in [*confirmed][:5]:
            assert self.client.state(name, symbol) == "confirmed"

    def is_settled_exactly(self) -> bool:
        wanted, confirmed = pairs(self.client.wanted), pairs(self.client.confirmed)
        return self.client.settled and confirmed | set(self.client.refused) == wanted


class HonestServer(Conversation):
    """Both sides, with frames under way in both directions."""

    @initialize(
        codec=st.sampled_from(list(CODECS.values())),
        limit=st.none() | st.integers(0, 6) | st.integers(0, 150),
    )
    def meet(self, codec: Codec, limit: int | None) -> None:
        self.codec = codec
        self.limit = limit
        self.skipped = False
        self.make_client()
        self.connect()

    def connect(self) -> None:
        self.server = ServerProtocol(
            ENDPOINTS["iex"],
            self.codec,
            authenticate=lambda key, secret: None,
            limit=self.limit,
        )
        self.client.reset()
        self.sent = {}
        self.upward: deque[bytes] = deque()
        self.downward: deque[bytes] = deque()
        self.server.start()
        self.downward += self.server.data_to_send()

    @rule(channel=channels, symbols=symbols)
    def want(self, channel: str, symbols: list[str]) -> None:
        idle = self.client.in_flight is None
        self.client.want(channel, symbols)
        self.upward += self.take(idle)

    @rule(channel=channels, symbols=symbols)
    def unwant(self, channel: str, symbols: list[str]) -> None:
        idle = self.client.in_flight is None
        self.client.unwant(channel, symbols)
        self.upward += self.take(idle)

    @precondition(lambda self: self.upward)
    @rule()
    def serve(self) -> None:
        self.server.receive(self.upward.popleft())
        self.downward += self.server.data_to_send()

    @precondition(lambda self: self.downward)
    @rule()
    def hear(self) -> None:
        events = self.client.receive(self.downward.popleft())
        assert not any(isinstance(event, ErrorReceived) for event in events) or self.skipped
        self.check(events)
        self.upward += self.take(1)

    @precondition(lambda self: self.client.in_flight is not None)
    @rule()
    def lose_patience(self) -> None:
        self.skipped = True
        self.check(self.client.skip_answer())
        self.upward += self.take(1)

    @rule()
    def reconnect(self) -> None:
        self.skipped = False
        self.connect()

    @rule()
    def finish(self) -> None:
        """Once all is said, the sets agree: at once, or after a reconnect if answers came late."""
        self.converse()
        if self.skipped:
            assert pairs(self.client.confirmed) == pairs(self.server.subscriptions)
            assert self.client.settled
            self.reconnect()
            self.converse()
        assert self.is_settled_exactly()
        assert pairs(self.client.confirmed) == pairs(self.server.subscriptions)
        if self.limit is None:
            assert not self.client.refused
        elif self.client.refused:
            assert {name for name, _ in self.client.refused} <= {"trades", "quotes"}
            assert {error.code for error in self.client.refused.values()} == {405}
            taken = sum(len(self.client.confirmed.get(name, ())) for name in ("trades", "quotes"))
            assert taken == self.limit, "no place is left while somebody waits for one"

    def converse(self) -> None:
        for _ in range(2_000):
            if self.upward:
                self.serve()
            elif self.downward:
                self.hear()
            else:
                return
        raise AssertionError("they never come to an end")

    def teardown(self) -> None:
        if hasattr(self, "server"):
            self.finish()


listed = st.none() | st.lists(st.sampled_from([*POOL[:8], "*", "", "é"]), max_size=5)
acknowledgements = st.builds(Subscription, **dict.fromkeys(CHANNELS, listed))
errors = st.builds(
    Error, st.sampled_from([*range(400, 414), 500, 0, -1, 2**63]), st.sampled_from(["", "text"])
)
successes = st.builds(Success, st.sampled_from(["connected", "authenticated", "", "hello"]))
control = acknowledgements | errors | successes
quote = Quote[int](symbol="A", bid_price=1.0, ask_price=2.0, timestamp=0)
lies = st.lists(control | st.just(quote), max_size=3)


class LyingServer(Conversation):
    """A client alone with whatever somebody may send."""

    @initialize(codec=st.sampled_from(list(CODECS.values())), welcomed=st.booleans())
    def meet(self, codec: Codec, welcomed: bool) -> None:
        self.codec = codec
        self.make_client()
        if welcomed:
            self.hear([Success("connected"), Success("authenticated")])

    @rule(name=channels, symbols=few)
    def want(self, name: str, symbols: list[str]) -> None:
        idle = self.client.in_flight is None
        self.client.want(name, symbols)
        self.take(idle)

    @rule(name=st.sampled_from(["corrections", "cancel_errors"]), symbols=few)
    def want_what_comes_by_itself(self, name: str, symbols: list[str]) -> None:
        self.client.want(name, symbols)
        self.take(0)
        self.client.unwant(name, symbols)

    @rule(name=channels, symbols=symbols)
    def unwant(self, name: str, symbols: list[str]) -> None:
        idle = self.client.in_flight is None
        self.client.unwant(name, symbols)
        self.take(idle)

    @rule(messages=lies)
    def hear(self, messages: list[Any]) -> None:
        # Each control message may answer the request that the one before it led to.
        self.check(self.client.receive(self.codec.encode(messages)))
        self.take(len(messages))

    @rule(data=st.binary(max_size=60), lead=st.sampled_from([b"", b"[", b"\x91", b"[{"]))
    def hear_noise(self, data: bytes, lead: bytes) -> None:
        with contextlib.suppress(ProtocolError):
            self.check(self.client.receive(lead + data))
        self.take(1)

    @rule()
    def skip_answer(self) -> None:
        self.check(self.client.skip_answer())
        self.take(1)

    @rule()
    def authenticate(self) -> None:
        self.client.authenticate()

    @rule()
    def reset(self) -> None:
        self.client.reset()
        self.sent = {}

    def teardown(self) -> None:
        """Whatever was said, an honest server on the next connection sets everything right."""
        self.client.reset()
        server = ServerProtocol(ENDPOINTS["iex"], self.codec, authenticate=lambda key, secret: None)
        server.start()
        for _ in range(100):
            for frame in server.data_to_send():
                self.client.receive(frame)
            for frame in self.client.data_to_send():
                server.receive(frame)
        assert self.is_settled_exactly()
        assert not self.client.refused


TestHonestServer = HonestServer.TestCase
TestLyingServer = LyingServer.TestCase
TestHonestServer.settings = TestLyingServer.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None
)


@settings(max_examples=150, deadline=None)
@given(
    answers=st.lists(control, min_size=1, max_size=4),
    wishes=st.lists(st.tuples(channels, few), min_size=1, max_size=4),
)
def test_no_liar_keeps_the_client_busy(
    answers: list[Any], wishes: list[tuple[str, list[str]]]
) -> None:
    """Whatever is answered, over and over, the client falls silent after a while."""
    codec = CODECS["json"]
    client = ClientProtocol(codec, CREDENTIALS)
    for name, symbols in wishes:
        client.want(name, symbols)
    client.receive(codec.encode([Success("connected"), Success("authenticated")]))
    client.data_to_send()
    client.want("quotes", ["LAST"])
    asked = 0
    while client.data_to_send():
        client.receive(codec.encode([answers[asked % len(answers)]]))
        asked += 1
        assert asked < 1_000
