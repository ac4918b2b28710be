"""The rules of the conversation, with literals and no event loop."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from alpaca_nb.credentials import Credentials, Secret
from alpaca_nb.errors import PlanError, ProtocolError, SubscriptionError
from alpaca_nb.wire.codec import JSON, MSGPACK, Codec
from alpaca_nb.wire.endpoints import ENDPOINTS
from alpaca_nb.wire.messages import Quote, Trade
from alpaca_nb.wire.protocol import (
    Authenticated,
    ClientProtocol,
    DataReceived,
    ErrorReceived,
    ServerProtocol,
    SubscriptionsChanged,
    SubscriptionsRefused,
    UnreadableReceived,
    Verdict,
    Welcomed,
    judge,
)

CREDENTIALS = Credentials(Secret("K"), Secret("S"))
CONNECTED = '[{"T":"success","msg":"connected"}]'
AUTHENTICATED = '[{"T":"success","msg":"authenticated"}]'
QUOTE = Quote[int](symbol="AAPL", bid_price=1.0, ask_price=2.0, timestamp=0)
TRADE = Trade[int](symbol="AAPL", price=1.0, size=1, timestamp=0)


def client(**options: Any) -> ClientProtocol:
    return ClientProtocol(JSON, CREDENTIALS, **options)


def ready_client() -> ClientProtocol:
    protocol = client()
    protocol.receive(CONNECTED)
    protocol.receive(AUTHENTICATED)
    sent(protocol)
    return protocol


def sent(protocol: ClientProtocol | ServerProtocol) -> list[Any]:
    return [json.loads(data) for data in protocol.data_to_send()]


def error(code: int) -> str:
    return json.dumps([{"T": "error", "code": code, "msg": "text"}])


def ack(**channels: list[str]) -> str:
    return json.dumps([{"T": "subscription"} | channels])


def test_client_sends_credentials_after_the_greeting() -> None:
    """Nothing is sent before the welcome, then exactly one auth message."""
    protocol = client()
    assert sent(protocol) == []
    assert protocol.receive(CONNECTED) == [Welcomed()]
    assert sent(protocol) == [{"action": "auth", "key": "K", "secret": "S"}]
    assert not protocol.authenticated
    assert protocol.receive(AUTHENTICATED) == [Authenticated()]
    assert protocol.authenticated


def test_client_with_header_credentials_sends_none() -> None:
    """After header authentication the server speaks first and no auth message follows."""
    protocol = client(header_auth=True)
    protocol.receive(CONNECTED)
    assert sent(protocol) == []
    assert protocol.receive(AUTHENTICATED) == [Authenticated()]


def test_client_answers_in_the_codec_of_the_greeting() -> None:
    """A server that knows only JSON is spoken to in JSON, whatever was asked for."""
    protocol = ClientProtocol(MSGPACK, CREDENTIALS)
    protocol.receive(CONNECTED)
    assert protocol.codec is JSON
    assert sent(protocol)[0]["action"] == "auth"
    protocol.reset()
    assert protocol.codec is MSGPACK


def test_wants_before_connection_are_asked_for_once_ready() -> None:
    """A wish made before the connection goes out as one request after authentication."""
    protocol = client()
    protocol.want("quotes", ["MSFT", "AAPL"])
    protocol.want("updated_bars", ["*"])
    assert sent(protocol) == []
    protocol.receive(CONNECTED)
    sent(protocol)
    protocol.receive(AUTHENTICATED)
    assert sent(protocol) == [
        {"action": "subscribe", "quotes": ["AAPL", "MSFT"], "updatedBars": ["*"]}
    ]


def test_one_change_in_flight_and_the_ack_is_the_full_state() -> None:
    """Further wishes wait for the answer, and the confirmed set is replaced by it."""
    protocol = ready_client()
    protocol.want("quotes", ["A"])
    protocol.want("quotes", ["B"])
    assert sent(protocol) == [{"action": "subscribe", "quotes": ["A"]}]
    (event,) = protocol.receive(ack(quotes=["A"]))
    confirmed = {"quotes": frozenset("A")}
    assert event == SubscriptionsChanged(confirmed, added=confirmed)
    assert sent(protocol) == [{"action": "subscribe", "quotes": ["B"]}]
    assert not protocol.settled
    protocol.receive(ack(quotes=["A", "B"]))
    assert protocol.settled
    assert protocol.confirmed == {"quotes": frozenset("AB")}


def test_large_sets_go_in_chunks() -> None:
    """A request never names more than a hundred symbols."""
    protocol = ready_client()
    symbols = [f"S{i}" for i in range(250)]
    protocol.want("trades", symbols)
    confirmed: set[str] = set()
    sizes = []
    while not protocol.settled:
        (request,) = sent(protocol)
        sizes.append(len(request["trades"]))
        confirmed |= set(request["trades"])
        protocol.receive(ack(trades=sorted(confirmed)))
    assert sizes == [100, 100, 50]
    assert confirmed == set(symbols)


def test_wants_are_counted() -> None:
    """A symbol is unsubscribed when the last of those who wanted it is gone."""
    protocol = ready_client()
    protocol.want("quotes", ["A"])
    protocol.want("quotes", ["A", "B"])
    sent(protocol)
    protocol.receive(ack(quotes=["A"]))
    sent(protocol)
    protocol.receive(ack(quotes=["A", "B"]))
    protocol.unwant("quotes", ["A", "B"])
    assert sent(protocol) == [{"action": "unsubscribe", "quotes": ["B"]}]
    protocol.receive(ack(quotes=["A"]))
    assert protocol.settled
    protocol.unwant("quotes", ["A", "NEVER"])
    assert sent(protocol) == [{"action": "unsubscribe", "quotes": ["A"]}]


@pytest.mark.parametrize("code", [400, 405, 410, 413])
def test_a_refusal_concerns_only_the_request_in_flight(code: int) -> None:
    """The refused symbols are known with their reason, the earlier ones stay, nothing loops."""
    protocol = ready_client()
    protocol.want("quotes", ["A"])
    protocol.receive(ack(quotes=["A"]))
    sent(protocol)
    protocol.want("quotes", ["B"])
    sent(protocol)
    (event,) = protocol.receive(error(code))
    assert isinstance(event, SubscriptionsRefused)
    assert event.refused == {"quotes": frozenset("B")}
    assert isinstance(event.error, SubscriptionError)
    assert protocol.refused[("quotes", "B")].code == code
    assert protocol.confirmed == {"quotes": frozenset("A")}
    assert sent(protocol) == []
    assert protocol.settled
    protocol.want("quotes", ["B"])
    assert sent(protocol) == [{"action": "subscribe", "quotes": ["B"]}]


def test_a_symbol_left_out_of_the_ack_is_not_asked_for_again() -> None:
    """A server that drops a symbol without a word cannot make the client loop."""
    protocol = ready_client()
    protocol.want("quotes", ["A", "B"])
    sent(protocol)
    events = protocol.receive(ack(quotes=["A"]))
    assert [type(event) for event in events] == [SubscriptionsChanged, SubscriptionsRefused]
    assert sent(protocol) == []
    protocol.unwant("quotes", ["A"])
    sent(protocol)
    protocol.receive(ack(quotes=["A"]))
    assert sent(protocol) == []


def test_a_server_that_acknowledges_only_the_change() -> None:
    """A server that forgets the rest of the state in its answers is not asked for ever."""
    protocol = ready_client()
    protocol.want("quotes", ["A"])
    protocol.want("trades", ["B"])
    requests = sent(protocol)
    for _ in range(10):
        latest = requests[-1]
        protocol.receive(ack(**{key: latest[key] for key in latest if key != "action"}))
        answer = sent(protocol)
        requests += answer
        if not answer:
            break
    assert protocol.settled
    assert len(requests) == 4
    protocol.want("bars", ["C"])
    assert {"action": "subscribe", "bars": ["C"]} in sent(protocol)


def test_a_server_that_never_acknowledges() -> None:
    """Without answers the changes still go out, once each, and nothing counts as confirmed."""
    protocol = ready_client()
    protocol.want("quotes", ["A"])
    protocol.want("quotes", ["B"])
    assert sent(protocol) == [{"action": "subscribe", "quotes": ["A"]}]
    (event,) = protocol.skip_answer()
    assert isinstance(event, SubscriptionsChanged)
    assert event.added == {"quotes": frozenset("A")}
    assert sent(protocol) == [{"action": "subscribe", "quotes": ["B"]}]
    protocol.skip_answer()
    assert protocol.skip_answer() == []
    assert protocol.is_sent("quotes", frozenset("AB"))
    assert protocol.state("quotes", "A") == "pending"
    assert sent(protocol) == []
    assert protocol.confirmed == {}
    assert protocol.settled
    protocol.unwant("quotes", ["A"])
    assert sent(protocol) == [{"action": "unsubscribe", "quotes": ["A"]}]
    protocol.receive(ack(quotes=["B"]))
    assert protocol.confirmed == {"quotes": frozenset("B")}
    assert sent(protocol) == []


def test_reset_asks_for_everything_again() -> None:
    """A new connection starts empty, so all that is wanted is subscribed anew."""
    protocol = ready_client()
    protocol.want("trades", ["A"])
    protocol.receive(ack(trades=["A"], corrections=["A"], cancelErrors=["A"]))
    assert protocol.settled
    protocol.reset()
    assert protocol.confirmed == {}
    protocol.receive(CONNECTED)
    sent(protocol)
    protocol.receive(AUTHENTICATED)
    assert sent(protocol) == [{"action": "subscribe", "trades": ["A"]}]


def test_a_taken_slot_is_waited_for_on_the_same_connection() -> None:
    """406 asks the caller to wait; the next auth goes out on the same connection."""
    protocol = client()
    protocol.receive(CONNECTED)
    sent(protocol)
    (event,) = protocol.receive(error(406))
    assert isinstance(event, ErrorReceived)
    assert event.verdict is Verdict.WAIT
    assert sent(protocol) == []
    protocol.authenticate()
    assert sent(protocol)[0]["action"] == "auth"
    assert protocol.receive(AUTHENTICATED) == [Authenticated()]


def test_wrong_plan_is_fatal_and_typed() -> None:
    """409 ends the attempt with the exception that says so."""
    protocol = client()
    protocol.receive(CONNECTED)
    (event,) = protocol.receive(error(409))
    assert isinstance(event, ErrorReceived)
    assert event.verdict is Verdict.FATAL
    assert isinstance(event.error, PlanError)


def test_already_authenticated_counts_as_success() -> None:
    """403 is harmless: it says that we are in."""
    protocol = client()
    protocol.receive(CONNECTED)
    assert protocol.receive(error(403)) == [Authenticated()]
    assert protocol.receive(error(403)) == []


def test_not_authenticated_sends_the_credentials_again() -> None:
    """After 401 the client authenticates and asks for its subscriptions again."""
    protocol = ready_client()
    protocol.want("quotes", ["A"])
    sent(protocol)
    protocol.receive(error(401))
    assert sent(protocol)[0]["action"] == "auth"
    protocol.receive(AUTHENTICATED)
    assert sent(protocol) == [{"action": "subscribe", "quotes": ["A"]}]


def test_not_authenticated_is_not_answered_for_ever() -> None:
    """Against a server that always says 401 the credentials go out a few times, not more."""
    protocol = client()
    protocol.receive(CONNECTED)
    protocol.receive(AUTHENTICATED)
    protocol.want("quotes", ["A"])
    sent(protocol)
    rounds = 0
    while not (events := protocol.receive(error(401))):
        rounds += 1
        assert sent(protocol)[0]["action"] == "auth"
        protocol.receive(AUTHENTICATED)
        assert sent(protocol)[0]["action"] == "subscribe"
    (event,) = events
    assert isinstance(event, ErrorReceived)
    assert event.verdict is Verdict.RECONNECT
    assert rounds == 3
    assert sent(protocol) == []


def test_a_taken_place_after_all_was_well() -> None:
    """406 on a connection that was in: nothing is asked for until the server lets us in again."""
    protocol = ready_client()
    protocol.want("quotes", ["A"])
    sent(protocol)
    (event,) = protocol.receive(error(406))
    assert isinstance(event, ErrorReceived)
    assert event.verdict is Verdict.WAIT
    assert not protocol.authenticated
    protocol.want("quotes", ["B"])
    assert sent(protocol) == []
    protocol.authenticate()
    assert sent(protocol)[0]["action"] == "auth"
    assert protocol.receive(AUTHENTICATED) == [Authenticated()]
    assert sent(protocol) == [{"action": "subscribe", "quotes": ["A", "B"]}]


def test_what_comes_out_of_turn_does_no_harm() -> None:
    """A second welcome, an early or repeated success, and an answer nobody asked for are taken."""
    protocol = client()
    (early,) = protocol.receive(ack(quotes=["X"]))
    assert isinstance(early, SubscriptionsChanged)
    assert protocol.receive(CONNECTED) == [Welcomed()]
    assert protocol.receive(CONNECTED) == []
    assert len(sent(protocol)) == 1
    assert protocol.receive(AUTHENTICATED) == [Authenticated()]
    assert sent(protocol) == [{"action": "unsubscribe", "quotes": ["X"]}]
    assert protocol.receive(AUTHENTICATED) == []
    assert protocol.receive(CONNECTED) == []
    assert sent(protocol) == []


@pytest.mark.parametrize("code", [400, 402, 403, 405, 406, 407, 408, 409, 410, 411, 412, 413, 500])
def test_errors_before_the_welcome(code: int) -> None:
    """An error in place of the welcome is an event like any other."""
    protocol = client()
    (event,) = protocol.receive(error(code))
    assert isinstance(event, ErrorReceived | Authenticated)


def test_a_refusal_is_fatal_only_while_nothing_was_asked_for() -> None:
    """410 in answer to the credentials ends the attempt; later it concerns a subscription."""
    protocol = client()
    protocol.receive(CONNECTED)
    (event,) = protocol.receive(error(410))
    assert isinstance(event, ErrorReceived)
    assert event.verdict is Verdict.FATAL
    (event,) = ready_client().receive(error(410))
    assert isinstance(event, ErrorReceived)
    assert event.verdict is Verdict.REFUSED


def test_a_refused_request_is_asked_for_in_parts() -> None:
    """What fits of a refused request is confirmed; the rest is one event at the end."""
    protocol = ready_client()
    protocol.want("quotes", ["A", "B", "C"])
    sent(protocol)
    assert protocol.receive(error(405)) == []
    assert sent(protocol) == [{"action": "subscribe", "quotes": ["A", "B"]}]
    protocol.receive(ack(quotes=["A", "B"]))
    assert sent(protocol) == [{"action": "subscribe", "quotes": ["C"]}]
    (event,) = protocol.receive(error(405))
    assert isinstance(event, SubscriptionsRefused)
    assert event.refused == {"quotes": frozenset("C")}
    assert protocol.state("quotes", "A") == "confirmed"
    assert protocol.state("quotes", "C") == "refused"
    assert protocol.settled


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (402, Verdict.FATAL),
        (404, Verdict.RECONNECT),
        (406, Verdict.WAIT),
        (407, Verdict.RECONNECT),
        (408, Verdict.FATAL),
        (409, Verdict.FATAL),
        (411, Verdict.FATAL),
        (412, Verdict.FATAL),
        (500, Verdict.RECONNECT),
        (999, Verdict.RECONNECT),
        (-(10**30), Verdict.RECONNECT),
    ],
)
def test_verdicts(code: int, verdict: Verdict) -> None:
    """What is retried is decided in one place."""
    assert judge(code) is verdict


def test_data_and_unknown_messages_are_told_apart() -> None:
    """Data comes as one event in order; what is unknown is reported beside it."""
    protocol = ready_client()
    data = JSON.encode([QUOTE, TRADE])[:-1] + b',{"T":"zz"}]'
    events = protocol.receive(data)
    assert isinstance(events[0], DataReceived)
    assert [type(message) for message in events[0].messages] == [Quote, Trade]
    assert isinstance(events[1], UnreadableReceived)
    with pytest.raises(ProtocolError):
        protocol.receive(b"<html>")


def test_no_secret_in_a_repr() -> None:
    """No repr shows the key or the secret, and they wait as secrets until they are sent."""
    credentials = Credentials(Secret("KEYKEY"), Secret("SECSEC"))
    protocol = ClientProtocol(JSON, credentials)
    protocol.receive(CONNECTED)
    greeted = server(header_credentials=credentials)
    told = [repr(protocol), *map(repr, vars(protocol).values())]
    told += [repr(greeted), *map(repr, vars(greeted).values())]
    assert not re.findall("KEYKEY|SECSEC", " ".join(told))
    assert "KEYKEY" not in repr(Authenticated("KEYKEY"))
    assert sent(protocol) == [{"action": "auth", "key": "KEYKEY", "secret": "SECSEC"}]


def test_a_server_that_repeats_the_keys() -> None:
    """What a server says of its errors is told without them."""
    credentials = Credentials(Secret("KEYKEYKEY"), Secret("SECSECSEC"))
    protocol = ClientProtocol(JSON, credentials)
    (event,) = protocol.receive(
        '[{"T":"error","code":402,"msg":"SECSECSEC is not the secret of KEYKEYKEY"}]'
    )
    assert isinstance(event, ErrorReceived)
    assert event.error.message == "Secret(…) is not the secret of Secret(…)"


# -- the server --------------------------------------------------------------------------


def server(codec: Codec = JSON, **options: Any) -> ServerProtocol:
    options.setdefault("authenticate", lambda key, secret: None if secret == "S" else 402)
    return ServerProtocol(ENDPOINTS["iex"], codec, **options)


def ready_server(**options: Any) -> ServerProtocol:
    protocol = server(**options)
    protocol.start()
    protocol.receive('{"action":"auth","key":"K","secret":"S"}')
    sent(protocol)
    return protocol


def codes(protocol: ServerProtocol) -> list[int]:
    return [message["code"] for (message,) in sent(protocol)]


def test_server_greets_and_authenticates() -> None:
    """The welcome comes first, then the answer to the credentials."""
    protocol = server()
    protocol.start()
    assert protocol.receive('{"action":"auth","key":"K","secret":"S"}') == [Authenticated("K")]
    assert b"".join(protocol.data_to_send()) == (CONNECTED + AUTHENTICATED).encode()
    protocol.receive('{"action":"auth","key":"K","secret":"S"}')
    assert codes(protocol) == [403]


def test_server_takes_header_credentials() -> None:
    """With credentials in the handshake it says authenticated unasked."""
    protocol = server(header_credentials=CREDENTIALS)
    assert protocol.start() == [Authenticated("K")]
    assert b"".join(protocol.data_to_send()) == (CONNECTED + AUTHENTICATED).encode()


def test_server_refuses_wrong_credentials_and_closes() -> None:
    """402 ends the connection; 406 leaves it open for another try."""
    protocol = server()
    protocol.receive('{"action":"auth","key":"K","secret":"wrong"}')
    assert codes(protocol) == [402]
    assert protocol.closing
    answers = iter([406, None])
    protocol = server(authenticate=lambda key, secret: next(answers))
    protocol.receive('{"action":"auth","key":"K","secret":"S"}')
    assert codes(protocol) == [406]
    assert not protocol.closing
    protocol.receive('{"action":"auth","key":"K","secret":"S"}')
    assert protocol.authenticated


@pytest.mark.parametrize(
    ("request_text", "code"),
    [
        ("{", 400),
        ("[]", 400),
        ('{"action":"dance"}', 400),
        ('{"action":"subscribe","quotes":"AAPL"}', 400),
        ('{"action":"subscribe","quotes":["not a symbol"]}', 400),
        ('{"action":"subscribe","quotes":[5]}', 400),
        ('{"action":"subscribe","news":["AAPL"]}', 410),
        ('{"action":"subscribe","nonsense":["AAPL"]}', 400),
    ],
)
def test_server_refuses_bad_requests(request_text: str, code: int) -> None:
    """Each bad request is answered with its code and changes nothing."""
    protocol = ready_server()
    assert protocol.receive(request_text) == []
    assert codes(protocol) == [code]
    assert not any(protocol.subscriptions.values())
    assert not protocol.closing


def test_server_wants_authentication_first() -> None:
    """A subscription before authentication is answered with 401."""
    protocol = server()
    protocol.receive('{"action":"subscribe","quotes":["AAPL"]}')
    assert codes(protocol) == [401]


def test_server_acknowledges_with_the_full_state() -> None:
    """Changes are additive, unused channels may be null, corrections follow trades."""
    protocol = ready_server()
    protocol.receive(
        '{"action":"subscribe","trades":["NVDA"],"bars":["*"],"news":null,"orderbooks":[]}'
    )
    assert protocol.data_to_send() == [
        b'[{"T":"subscription","trades":["NVDA"],"quotes":[],"bars":["*"],"updatedBars":[],'
        b'"dailyBars":[],"statuses":[],"lulds":[],"corrections":["NVDA"],"cancelErrors":["NVDA"]}]'
    ]
    protocol.receive('{"action":"unsubscribe","trades":["NVDA","NEVER"],"corrections":["NVDA"]}')
    (((message),),) = sent(protocol)
    assert message["trades"] == message["corrections"] == []
    assert message["bars"] == ["*"]


def test_server_limits_symbols_and_keeps_the_earlier_set() -> None:
    """405 rejects the whole request; bars do not count."""
    protocol = ready_server(limit=2)
    protocol.receive('{"action":"subscribe","quotes":["A"],"bars":["B","C","D"]}')
    protocol.data_to_send()
    protocol.receive('{"action":"subscribe","quotes":["B"],"trades":["A"]}')
    assert codes(protocol) == [405]
    assert protocol.subscriptions["quotes"] == {"A"}


def test_server_sends_only_what_is_subscribed() -> None:
    """Data is filtered by channel and symbol, and '*' means all."""
    protocol = ready_server()
    protocol.receive('{"action":"subscribe","quotes":["AAPL"]}')
    protocol.data_to_send()
    protocol.send_data([TRADE, QUOTE])
    ((message,),) = sent(protocol)
    assert message["T"] == "q"
    protocol.send_data([TRADE])
    assert protocol.data_to_send() == []


def test_server_refuses_the_other_codec() -> None:
    """JSON on a MessagePack connection is invalid syntax."""
    protocol = server(codec=MSGPACK)
    protocol.receive('{"action":"auth","key":"K","secret":"S"}')
    assert protocol.data_to_send() == [MSGPACK.encode([_error(400, "invalid syntax")])]


def _error(code: int, text: str) -> Any:
    from alpaca_nb.wire.messages import Error

    return Error(code, text)


@pytest.mark.parametrize("codec", [JSON, MSGPACK])
def test_both_sides_understand_each_other(codec: Codec) -> None:
    """A client and a server wired together end with the same subscriptions and the data across."""
    ours = ClientProtocol(codec, CREDENTIALS)
    theirs = server(codec)
    ours.want("quotes", ["AAPL", "*"])
    ours.want("trades", ["MSFT"])
    theirs.start()
    for _ in range(5):
        for data in theirs.data_to_send():
            ours.receive(data)
        for data in ours.data_to_send():
            theirs.receive(data)
    assert ours.settled
    assert ours.confirmed["quotes"] == theirs.subscriptions["quotes"] == {"AAPL", "*"}
    theirs.send_data([QUOTE, TRADE])
    (data,) = theirs.data_to_send()
    (event,) = ours.receive(data)
    assert isinstance(event, DataReceived)
    assert [message.symbol for message in event.messages] == ["AAPL"]
