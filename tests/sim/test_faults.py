"""What goes wrong on demand, as a client meets it over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

import msgpack
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidStatus,
)

from alpaca_nb.clock import ManualClock
from alpaca_nb.errors import BadInputError, SimulatorError
from alpaca_nb.sim import faults as faults_module
from alpaca_nb.sim.faults import (
    MOMENTS,
    OF_REST,
    Cut,
    CutRest,
    DelayAcks,
    Duplicate,
    EndlessPages,
    Fault,
    Faults,
    Garbage,
    HoldSession,
    HtmlRest,
    LateData,
    Mute,
    Oversize,
    Pause,
    RefuseHandshake,
    RefuseRest,
    SendError,
    SlowClient,
    SlowRest,
    Truncated,
    UnknownMessage,
)
from alpaca_nb.sim.server import QUIET_S, LocalSimulator, SimulatorServer
from alpaca_nb.sim.tape import RecordedTape
from alpaca_nb.wire.codec import format_time

KEYS = {"APCA-API-KEY-ID": "k", "APCA-API-SECRET-KEY": "s"}
MSGPACK = {"Content-Type": "application/msgpack"}
START_NS = 1_790_000_000_000_000_000
COUNT = 100
CLOSED = (ConnectionClosed, InvalidHandshake, HTTPException, OSError, ValueError)


def trade(number: int) -> dict[str, Any]:
    """The trade of a number: one every 10 ms."""
    moment = format_time(START_NS + number * 10_000_001)
    return {"T": "t", "S": "A", "i": number, "x": "V", "p": 1.5, "s": 2, "c": ["@"], "t": moment}


@pytest.fixture
def tape(tmp_path: Path) -> RecordedTape:
    """A second of trades of one symbol, numbered from 0."""
    path = tmp_path / "tape.jsonl"
    path.write_text("\n".join(json.dumps(trade(number)) for number in range(COUNT)))
    return RecordedTape(path)


class Peer:
    """The other end of a connection: what it is sent, one by one."""

    def __init__(self, connection: ClientConnection, read: Any) -> None:
        self.connection = connection
        self._read = read
        self._received: list[dict[str, Any]] = []

    async def next(self) -> dict[str, Any]:
        while not self._received:
            async with asyncio.timeout(5):
                self._received = self._read(await self.connection.recv(decode=False))
        return self._received.pop(0)

    async def tags(self, count: int) -> list[str]:
        return [(await self.next())["T"] for _ in range(count)]

    async def ids(self, count: int) -> list[int]:
        return [(await self.next())["i"] for _ in range(count)]

    async def quiet(self, seconds: float = 0.05) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(seconds):
                raise AssertionError(await self.connection.recv())

    async def say(self, **request: object) -> None:
        packed = self._read is msgpack.unpackb
        await self.connection.send(msgpack.packb(request) if packed else json.dumps(request))

    async def subscribe(self) -> None:
        """Log in, and subscribe the trades; both are seen to be answered."""
        assert await self.tags(2) == ["success", "success"]
        await self.say(action="subscribe", trades=["A"])
        assert await self.tags(1) == ["subscription"]

    async def end(self) -> tuple[list[dict[str, Any]], int | None]:
        """What is sent until the connection ends, and the code it ends with."""
        messages = []
        try:
            while True:
                messages.append(await self.next())
        except ConnectionClosed as closed:
            return messages, closed.rcvd.code if closed.rcvd else None


@contextlib.asynccontextmanager
async def peer(server: Any, *, packed: bool = False, **options: Any) -> AsyncIterator[Peer]:
    """Connect with credentials in the headers."""
    headers = KEYS | (MSGPACK if packed else {})
    options = {"additional_headers": headers, "max_size": None, "close_timeout": 0.2} | options
    async with connect(server.url + "/v2/iex", **options) as connection:
        yield Peer(connection, msgpack.unpackb if packed else json.loads)


async def begin(clock: ManualClock, others: int = 1) -> None:
    """Let the quiet pass after which the tape starts; the others are the clients' timers."""
    await clock.advance(QUIET_S)
    while clock.sleepers < 1 + others:
        await asyncio.sleep(0.001)


async def get(url: str) -> tuple[int, dict[str, str], bytes]:
    """A plain HTTP GET, off the loop that the server runs on."""

    def fetch() -> tuple[int, dict[str, str], bytes]:
        request = urllib.request.Request(url, headers=KEYS)
        try:
            with urllib.request.urlopen(request, timeout=5) as response:
                return response.status, dict(response.headers), response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, dict(error.headers), error.read()

    return await asyncio.to_thread(fetch)


HISTORY = "/v2/stocks/A/trades?feed=iex&limit=1000"


# -- the table ---------------------------------------------------------------------------


def kinds() -> list[type[Fault]]:
    found = vars(faults_module).values()
    return [
        each
        for each in found
        if isinstance(each, type) and issubclass(each, Fault) and each is not Fault
    ]


def example(kind: type[Fault]) -> Fault:
    return Pause(0.05) if kind is Pause else kind()


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("kind", kinds())
def test_what_makes_no_sense_is_refused(kind, moment):
    """Each fault says when it can happen; at another moment it is refused, and that is said."""
    faults = Faults()
    if moment not in kind.moments:
        with pytest.raises(BadInputError, match=f"{kind.__name__} cannot happen at {moment!r}"):
            faults.add(example(kind), at=moment)
    elif moment != "now":
        faults.add(example(kind), at=moment)
        assert kind.__name__ in repr(faults)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Mute(-1), "seconds"),
        (lambda: Pause(float("nan")), "seconds"),
        (lambda: HoldSession("long"), "seconds"),
        (lambda: LateData(True), "seconds"),
        (lambda: DelayAcks(-0.1), "seconds"),
        (lambda: SlowRest(None), "seconds"),
        (lambda: RefuseHandshake(200), "400 to 599"),
        (lambda: RefuseRest(600), "400 to 599"),
        (lambda: RefuseRest(429, reset_s=-1), "seconds"),
        (lambda: HtmlRest(99), "400 to 599"),
        (lambda: SendError("402"), "error code"),
        (lambda: Garbage(7), "bytes or text"),
        (lambda: Oversize(0), "size"),
        (lambda: Duplicate(0), "number of messages"),
        (lambda: Duplicate(5000), "1000 at most"),
        (lambda: Faults().add("cut", at="data"), "Cut()"),
        (lambda: Faults().add(Cut(), at="never"), "handshake, welcome"),
        (lambda: Faults().add(Cut(), at="data", times=0), "times="),
        (lambda: Faults().add(Cut(), at="data", after=-1), "after="),
        (lambda: Faults().add(Cut(), at="ack", after=1), "after="),
        (lambda: Faults().add(Cut(), at="now", times=2), "times="),
    ],
)
def test_bad_arguments_are_explained(make, reason):
    """Whatever cannot be armed is refused at once, in one sentence."""
    with pytest.raises(BadInputError, match=reason):
        make()


def test_faults_take_their_turn():
    """One after the other in the order they were armed, each as often as it should."""
    faults = Faults()
    faults.add(Cut(), at="ack", times=2)
    faults.add(Mute(), at="ack")
    faults.add(Cut(mid_frame=True), at="auth", times=None)
    assert [faults.take("ack") for _ in range(4)] == [Cut(), Cut(), Mute(), None]
    assert faults.take("data") is None
    assert [faults.take("auth") for _ in range(3)] == [Cut(mid_frame=True)] * 3
    assert faults.armed
    faults.clear()
    assert not faults.armed
    assert faults.take("auth") is None
    assert faults.happened == [
        *[(Cut(), "ack")] * 2,
        (Mute(), "ack"),
        *[(Cut(mid_frame=True), "auth")] * 3,
    ]


def test_messages_are_counted_from_the_turn_on():
    """`after` counts from when the fault's turn has come, and anew for each time."""
    faults = Faults()
    faults.add(Cut(), at="data", after=5, times=2)
    faults.add(Mute(), at="data", after=1)
    happened = []
    for _ in range(20):
        assert faults.room(9) in (*range(6), 9)
        happened.append(faults.take("data"))
        if happened[-1] is None:
            faults.count(1)
    expected: list[Any] = [None] * 20
    expected[5], expected[11], expected[13] = Cut(), Cut(), Mute()
    assert happened == expected


def test_now_needs_a_running_simulator():
    """There is nothing that could be hit; an error says so, and nothing has happened."""
    simulator = LocalSimulator()
    with pytest.raises(SimulatorError, match="start it first"):
        simulator.faults.add(Cut(), at="now")
    with simulator:
        simulator.faults.add(Cut(), at="now")
    with pytest.raises(SimulatorError, match="start it first"):
        simulator.faults.add(Cut(), at="now")
    assert simulator.faults.happened == [(Cut(), "now")]


# -- all of them, healed -----------------------------------------------------------------


async def gather_all(server: SimulatorServer, *, rest_s: float) -> set[int]:
    """A simple client that reconnects whatever happens, and asks REST for the rest."""
    seen: set[int] = set()
    async with asyncio.timeout(20):
        while len(seen) < COUNT:
            with contextlib.suppress(*CLOSED, TimeoutError):
                async with peer(server, open_timeout=0.5, ping_interval=None) as client:
                    await read(client, seen)
            if not server.position:
                continue
            with contextlib.suppress(*CLOSED, TimeoutError):
                async with asyncio.timeout(rest_s):
                    _, _, body = await get(server.rest_url + HISTORY)
                seen |= {each["i"] for each in json.loads(body).get("trades") or []}
            await asyncio.sleep(0.01)
    return seen


async def read(client: Peer, seen: set[int]) -> None:
    subscribed = False
    while True:
        async with asyncio.timeout(0.4):
            message = await client.next()
        if message.get("msg") == "authenticated" and not subscribed:
            subscribed = True
            await client.say(action="subscribe", trades=["A"])
            # Something is given up as well, for those that wait for that.
            await client.say(action="subscribe", bars=["A"])
            await client.say(action="unsubscribe", bars=["A"])
        elif message["T"] == "t":
            seen.add(message["i"])
            if len(seen) == COUNT:
                return


SHORT: dict[type[Fault], list[Fault]] = {
    Cut: [Cut(), Cut(mid_frame=True)],
    Mute: [Mute(), Mute(0.1)],
    Pause: [Pause(0.05)],
    HoldSession: [HoldSession(0.1)],
    RefuseHandshake: [RefuseHandshake(status) for status in (403, 404, 429, 500, 502, 503)],
    SlowClient: [SlowClient(), SlowClient(warn=False)],
    SendError: [SendError(code) for code in (400, 402, 405, 406, 407, 409, 500, 599)],
    LateData: [LateData(0.05)],
    DelayAcks: [DelayAcks(0.05)],
    RefuseRest: [RefuseRest(), RefuseRest(429), RefuseRest(422, body="no JSON")],
    HtmlRest: [HtmlRest(), HtmlRest(502)],
    SlowRest: [SlowRest(0.05)],
    CutRest: [CutRest(), CutRest(mid_answer=False)],
}


@pytest.mark.parametrize("kind", kinds())
async def test_every_fault_at_every_moment_can_be_lived_through(kind, tmp_path, tape):
    """It happens as often as it was armed, at its moment, and all is well afterwards."""

    async def live_through(fault: Fault, moment: Any) -> None:
        async with SimulatorServer(tape, speed=20, rest_limit=10_000) as server:
            if moment != "now":
                after = 30 if moment == "data" else 0
                server.faults.add(fault, at=moment, times=2, after=after)
            task = asyncio.create_task(gather_all(server, rest_s=2))
            if moment == "now":
                while server.position == 0:
                    await asyncio.sleep(0.01)
                server.faults.add(fault, at="now")
            assert await task == set(range(COUNT)), (fault, moment)
            times = [each for each in server.faults.happened if each == (fault, moment)]
            assert times, (fault, moment)
            assert len(times) <= 2, (fault, moment)

    before = asyncio.all_tasks()
    await asyncio.gather(
        *(
            live_through(fault, moment)
            for fault in SHORT.get(kind) or [kind()]
            for moment in kind.moments
        )
    )
    assert asyncio.all_tasks() == before


# -- each in detail ----------------------------------------------------------------------


async def raw(server: SimulatorServer) -> bytes:
    """All bytes that a connection brings until it ends, without anything read into them."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(
        b"GET /v2/iex HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    async with asyncio.timeout(5):
        data = await reader.read()
    writer.close()
    await writer.wait_closed()
    return data


async def test_a_cut_in_mid_frame_leaves_half_of_it(tape):
    """Half the bytes of the frame arrive, and then the end of the connection."""
    async with SimulatorServer(tape) as server:
        server.faults.add(Cut(mid_frame=True), at="welcome")
        _, _, frame = (await raw(server)).partition(b"\r\n\r\n")
        whole = b'\x81#[{"T":"success","msg":"connected"}]'
        assert frame == whole[: len(whole) // 2]
        server.faults.add(Cut(), at="welcome")
        _, _, frame = (await raw(server)).partition(b"\r\n\r\n")
        assert frame == b""


async def test_a_handshake_can_be_cut_too(tape):
    """Before the answer or in the middle of it; or what comes is no HTTP at all."""
    async with SimulatorServer(tape) as server:
        for fault in (Cut(), Cut(mid_frame=True), Garbage("hello")):
            server.faults.add(fault, at="handshake")
        assert await raw(server) == b""
        half = await raw(server)
        assert half.startswith(b"HTTP/1.1 101")
        assert b"\r\n\r\n" not in half
        assert await raw(server) == b"hello"
        server.faults.add(Cut(), at="handshake")
        with pytest.raises(InvalidMessage):
            async with peer(server):
                pass


@pytest.mark.parametrize("status", [403, 404, 429, 500, 502, 503])
async def test_handshakes_are_refused_so_many_times(tape, status):
    """The next two are answered with the HTTP error, the third is let in."""
    async with SimulatorServer(tape) as server:
        server.faults.add(RefuseHandshake(status), at="handshake", times=2)
        for _ in range(2):
            with pytest.raises(InvalidStatus) as caught:
                async with peer(server):
                    pass
            assert caught.value.response.status_code == status
        async with peer(server) as client:
            await client.subscribe()


async def test_a_late_handshake(tape):
    """A paused handshake is answered after the time; a mute one not as long as one waits."""
    clock = ManualClock()
    async with SimulatorServer(tape, clock=clock) as server:
        server.faults.add(Pause(3), at="handshake")
        async with asyncio.TaskGroup() as group:
            task = group.create_task(connect_once(server))
            while not clock.sleepers:
                await asyncio.sleep(0.001)
            await clock.advance(2.9)
            await asyncio.sleep(0.02)
            assert not task.done()
            await clock.advance(0.2)
        server.faults.add(Mute(), at="handshake")
        with pytest.raises(TimeoutError):
            async with peer(server, open_timeout=0.1):
                pass
        server.faults.add(Mute(), at="handshake")
        silent = asyncio.create_task(connect_once(server))
        while len(server.faults.happened) < 3:
            await asyncio.sleep(0.001)
    with pytest.raises((InvalidHandshake, ConnectionClosed)):  # the server stops all the same
        await silent


async def connect_once(server: SimulatorServer) -> None:
    async with peer(server) as client:
        assert (await client.next())["msg"] == "connected"


async def test_a_mute_connection_answers_pings_and_loses_data(tape):
    """For the time nothing comes but pongs; what was due meanwhile never comes."""
    clock = ManualClock()
    async with SimulatorServer(tape, clock=clock) as server, peer(server) as client:
        await client.subscribe()
        await begin(clock)
        server.faults.add(Mute(0.3), at="data", after=10)
        await clock.advance(0.15)
        assert await client.ids(10) == list(range(10))
        async with asyncio.timeout(5):
            await (await client.connection.ping())
        await client.say(action="subscribe", quotes=["A"])
        await client.quiet()
        await clock.advance(0.6)
        first = (await client.next())["i"]
        assert 35 <= first <= 50
        assert await client.ids(20) == list(range(first + 1, first + 21))


async def test_a_mute_connection_can_stay_mute(tape):
    """Without a time it is for ever, and a goodbye works as always."""
    clock = ManualClock()
    async with SimulatorServer(tape, clock=clock) as server:
        async with peer(server) as client:
            server.faults.add(Mute(), at="ack")
            assert await client.tags(2) == ["success", "success"]
            await client.say(action="subscribe", trades=["A"])
            await asyncio.sleep(0.02)
            await begin(clock)
            await clock.advance(2)
            await client.quiet()
        while not server.goodbyes:
            await asyncio.sleep(0.001)
        assert server.goodbyes == [1000]


async def test_a_pause_loses_nothing(tape):
    """Nothing for a while, then everything in order."""
    clock = ManualClock()
    async with SimulatorServer(tape, clock=clock) as server, peer(server) as client:
        await client.subscribe()
        await begin(clock)
        server.faults.add(Pause(0.5), at="data", after=10)
        await clock.advance(0.3)
        assert await client.ids(10) == list(range(10))
        await client.quiet()
        await clock.advance(0.9)
        assert await client.ids(COUNT - 10) == list(range(10, COUNT))


async def test_a_held_session_refuses_its_account_for_a_while(tape):
    """After the cut the place is taken: 406 to this account on this feed, until the time is up."""
    clock = ManualClock()
    async with SimulatorServer(tape, clock=clock, auth_timeout_s=1000) as server:
        server.faults.add(HoldSession(30), at="ack")
        async with peer(server) as client:
            await client.subscribe()
            server.faults.add(Cut(), at="now")
            assert await client.end() == ([], None)
        async with peer(server) as client:
            assert (await client.next())["msg"] == "connected"
            assert (await client.next())["code"] == 406
            await clock.advance(29.9)
            await client.say(action="auth", key="k", secret="s")
            assert (await client.next())["code"] == 406
        async with peer(server, additional_headers=KEYS | {"APCA-API-KEY-ID": "another"}) as other:
            assert [(await other.next())["msg"] for _ in range(2)] == ["connected", "authenticated"]
        await clock.advance(0.2)
        async with peer(server) as client:
            await client.subscribe()


@pytest.mark.parametrize("moment", ["ack", "data", "now"])
async def test_a_slow_client_is_dropped_with_or_without_a_word(tape, moment):
    """407 and a goodbye, or the goodbye alone."""
    for warn in (True, False):
        async with SimulatorServer(tape, speed=0) as server, peer(server) as client:
            assert await client.tags(2) == ["success", "success"]
            if moment != "now":
                server.faults.add(SlowClient(warn=warn), at=moment)
            await client.say(action="subscribe", trades=["A"])
            if moment != "ack":
                assert await client.tags(1) == ["subscription"]
            if moment == "now":
                server.faults.add(SlowClient(warn=warn), at="now")
            messages, code = await client.end()
            assert [each.get("code") for each in messages] == ([407] if warn else [])
            assert code == 1008


async def test_errors_in_answer_to_credentials(tape):
    """An expired key is 402 and the end; with 406 one may try again on the same connection."""
    async with SimulatorServer(tape) as server:
        server.faults.add(SendError(402), at="auth")
        async with peer(server) as client:
            messages, code = await client.end()
            assert [each.get("code") for each in messages] == [None, 402]
            assert code == 1008
        server.faults.add(SendError(406), at="auth")
        async with peer(server) as client:
            assert [(await client.next()).get("code") for _ in range(2)] == [None, 406]
            await client.say(action="auth", key="k", secret="s")
            assert (await client.next())["msg"] == "authenticated"


async def test_errors_in_answer_to_a_subscription(tape):
    """The change does not take place, and the next one does."""
    async with SimulatorServer(tape) as server, peer(server) as client:
        assert await client.tags(2) == ["success", "success"]
        server.faults.add(SendError(405), at="ack")
        await client.say(action="subscribe", trades=["A"])
        refused = await client.next()
        assert (refused["code"], refused["msg"]) == (405, "symbol limit exceeded")
        await client.say(action="subscribe", quotes=["A"])
        answer = await client.next()
        assert (answer["trades"], answer["quotes"]) == ([], ["A"])


async def test_errors_in_the_middle_of_data(tape):
    """The error comes in its place, and the data goes on."""
    async with SimulatorServer(tape, speed=0) as server, peer(server) as client:
        server.faults.add(SendError(500), at="data", after=40)
        await client.subscribe()
        messages = [await client.next() for _ in range(COUNT + 1)]
        assert [each["i"] for each in messages if each["T"] == "t"] == list(range(COUNT))
        (error,) = [each for each in messages if each["T"] == "error"]
        assert error["code"] == 500
        assert messages.index(error) >= 40


@pytest.mark.parametrize("packed", [False, True], ids=["json", "msgpack"])
async def test_garbage_comes_before_the_next_frame(tape, packed):
    """Bytes in a binary frame, text in a text frame, and nothing is lost."""
    async with SimulatorServer(tape, speed=0) as server, peer(server, packed=packed) as client:
        server.faults.add(Garbage(), at="data", after=7)
        server.faults.add(Garbage("oops"), at="data", after=7)
        await client.subscribe()
        ids = await client.ids(7)
        assert await client.connection.recv() == Garbage().data
        ids += [each["i"] for each in client._read(await client.connection.recv(decode=False))]
        ids += await client.ids(7)
        assert await client.connection.recv() == "oops"
        ids += await client.ids(COUNT - len(ids))
        assert ids == list(range(COUNT))


@pytest.mark.parametrize("packed", [False, True], ids=["json", "msgpack"])
async def test_a_truncated_frame_is_half_a_message(tape, packed):
    """The WebSocket frame is whole, what it holds is not, and that is lost."""
    async with SimulatorServer(tape, speed=0) as server, peer(server, packed=packed) as client:
        server.faults.add(Truncated(), at="ack")
        assert await client.tags(2) == ["success", "success"]
        await client.say(action="subscribe", trades=["A"])
        half = await client.connection.recv(decode=False)
        with pytest.raises(ValueError, match=r"."):
            client._read(half)
        assert half[:3] == (b"\x91\x8a\xa1" if packed else b'[{"')
        assert await client.ids(COUNT) == list(range(COUNT))


@pytest.mark.parametrize("packed", [False, True], ids=["json", "msgpack"])
async def test_an_oversize_frame_is_legal(tape, packed):
    """More than a mebibyte of messages that nobody knows; who cannot take it says 1009."""
    async with SimulatorServer(tape, speed=0) as server:
        server.faults.add(Oversize(2_000_000), at="data", after=5, times=2)
        async with peer(server, packed=packed) as client:
            await client.subscribe()
            assert await client.ids(5) == list(range(5))
            frame = await client.connection.recv(decode=False)
            assert len(frame) >= 2_000_000
            assert {each["T"] for each in client._read(frame)} == {"zz"}
            assert await client.ids(6) == list(range(5, 11))
    async with SimulatorServer(tape, speed=0) as server:
        server.faults.add(Oversize(), at="ack")
        async with peer(server, packed=packed, max_size=1 << 20) as client:
            assert await client.tags(2) == ["success", "success"]
            await client.say(action="subscribe", trades=["A"])
            await client.end()
        while not server.goodbyes:
            await asyncio.sleep(0.001)
        assert server.goodbyes == [1009]


@pytest.mark.parametrize("packed", [False, True], ids=["json", "msgpack"])
async def test_unknown_types_and_keys_take_nothing_away(tape, packed):
    """One message of an unknown type, and a key more in the next; times keep their nanoseconds."""
    async with SimulatorServer(tape, speed=0) as server, peer(server, packed=packed) as client:
        server.faults.add(UnknownMessage(tag="new"), at="data", after=2)
        await client.subscribe()
        plain = [await client.next() for _ in range(2)]
        unknown = await client.next()
        assert unknown["T"] == "new"
        more = [await client.next() for _ in range(COUNT - 2)]
        assert any(message.pop("zz", None) for message in more)
        assert [message["i"] for message in plain + more] == list(range(COUNT))
        assert all(message.keys() == plain[0].keys() for message in more)
        assert len({str(message["t"]) for message in more}) == COUNT - 2


async def test_duplicates_are_the_last_messages_again(tape):
    """As many as asked for of those that this client has been sent, or all there are."""
    async with SimulatorServer(tape, speed=0) as server, peer(server) as client:
        server.faults.add(Duplicate(4), at="data", after=20)
        server.faults.add(Duplicate(1000), at="data", after=10)
        await client.subscribe()
        ids = await client.ids(20)
        assert await client.ids(4) == [16, 17, 18, 19]
        ids += await client.ids(1)
        while len(ids) < COUNT:
            ids += await client.ids(1)
            if ids[-1] == 0:
                ids.pop()
                again = [0, *await client.ids(len(ids) - 1)]
                assert again == ids
        assert ids == list(range(COUNT))


async def test_data_keeps_coming_after_an_unsubscription(tape):
    """For the time, although the acknowledgement says otherwise; then it ends."""
    clock = ManualClock()
    async with SimulatorServer(tape, clock=clock) as server, peer(server) as client:
        await client.subscribe()
        await begin(clock)
        server.faults.add(LateData(0.2), at="ack")
        await client.say(action="subscribe", quotes=["A"])
        assert await client.tags(1) == ["subscription"]
        assert server.faults.happened == []
        await client.say(action="unsubscribe", trades=["A"])
        assert (await client.next())["trades"] == []
        assert server.faults.happened == [(LateData(0.2), "ack")]
        await clock.advance(0.6)
        late = await client.ids(15)
        assert late == list(range(15))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                while True:
                    late += await client.ids(1)
        assert late == list(range(len(late)))
        assert len(late) < 30


async def test_a_late_acknowledgement_does_not_hold_the_data_up(tape):
    """The change is in force, so data comes first; answers keep their order."""
    clock = ManualClock()
    async with SimulatorServer(tape, clock=clock) as server, peer(server) as client:
        server.faults.add(DelayAcks(0.8), at="ack")
        assert await client.tags(2) == ["success", "success"]
        await client.say(action="subscribe", trades=["A"])
        await client.say(action="subscribe", quotes=["A"])
        while clock.sleepers < 3:  # the player, the timer of authentication, and that of the ack
            await asyncio.sleep(0.001)
        await begin(clock, others=2)
        await clock.advance(0.2)
        assert await client.ids(15) == list(range(15))
        await clock.advance(0.6)
        messages = []
        while not messages or messages[-1].get("quotes") != ["A"]:
            messages.append(await client.next())
        acks = [each for each in messages if each["T"] == "subscription"]
        assert [(each["trades"], each["quotes"]) for each in acks] == [(["A"], []), (["A"], ["A"])]


# -- REST --------------------------------------------------------------------------------


@pytest.fixture
async def played(tape):
    """A server whose tape has been played to its end."""
    async with SimulatorServer(tape, speed=0) as server:
        async with peer(server) as client:
            await client.subscribe()
            await client.ids(COUNT)
        yield server


async def test_rest_refusals(played):
    """The next requests are answered with the error; those of the clock are not touched."""
    played.faults.add(RefuseRest(500), at="rest")
    played.faults.add(RefuseRest(422, body="what?"), at="rest")
    assert (await get(played.rest_url + "/v2/clock"))[0] == 200
    status, headers, body = await get(played.rest_url + HISTORY)
    assert (status, json.loads(body)) == (500, {"message": "Internal Server Error"})
    assert headers["X-RateLimit-Limit"] == "200"
    status, _, body = await get(played.rest_url + HISTORY)
    assert (status, body) == (422, b"what?")
    assert (await get(played.rest_url + HISTORY))[0] == 200


async def test_rest_says_when_to_come_back(tape):
    """A 429 on demand has headers like a true one, with the time that was asked for."""
    clock = ManualClock()
    async with SimulatorServer(tape, clock=clock) as server:
        server.faults.add(RefuseRest(429, reset_s=5), at="rest")
        status, headers, _ = await get(server.rest_url + HISTORY)
        assert (status, headers["X-RateLimit-Remaining"]) == (429, "0")
        assert int(headers["X-RateLimit-Reset"]) == clock.now_ns() // 10**9 + 5


async def test_rest_answers_with_a_web_page(played):
    """HTML where JSON should be, with any status."""
    played.faults.add(HtmlRest(), at="rest")
    played.faults.add(HtmlRest(502), at="rest")
    for expected in (200, 502):
        status, headers, body = await get(played.rest_url + HISTORY)
        assert (status, headers["Content-Type"]) == (expected, "text/html")
        assert body.startswith(b"<!DOCTYPE html>")


async def test_rest_never_comes_to_the_last_page(played):
    """Tokens without an end, until the faults are cleared."""
    played.faults.add(EndlessPages(), at="rest")
    token, tokens = "", []
    for _ in range(5):
        _, _, body = await get(played.rest_url + HISTORY + token)
        tokens.append(json.loads(body)["next_page_token"])
        token = f"&page_token={tokens[-1]}"
    assert len(set(tokens)) == 5
    assert None not in tokens
    played.faults.clear()
    _, _, body = await get(played.rest_url + HISTORY + token)
    assert json.loads(body)["next_page_token"] is None


async def test_rest_is_slow(tape):
    """The answer comes when the time is up, and not before."""
    clock = ManualClock()
    async with SimulatorServer(tape, clock=clock) as server:
        server.faults.add(SlowRest(3), at="rest")
        answer = asyncio.create_task(get(server.rest_url + HISTORY))
        while not clock.sleepers:
            await asyncio.sleep(0.001)
        await clock.advance(2.9)
        await asyncio.sleep(0.02)
        assert not answer.done()
        await clock.advance(0.2)
        assert (await answer)[0] == 200


@pytest.mark.parametrize("mid_answer", [True, False])
async def test_rest_is_cut(played, mid_answer):
    """The connection ends before the answer, or in the middle of it."""
    played.faults.add(CutRest(mid_answer=mid_answer), at="rest")
    reader, writer = await asyncio.open_connection("127.0.0.1", played.port)
    writer.write(
        f"GET {HISTORY} HTTP/1.1\r\nHost: a\r\nAPCA-API-KEY-ID: k\r\n"
        "APCA-API-SECRET-KEY: s\r\n\r\n".encode()
    )
    async with asyncio.timeout(5):
        data = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = data.partition(b"\r\n\r\n")
    if mid_answer:
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        assert 0 < len(body) < length
    else:
        assert data == b""


async def test_a_stream_is_cut_while_rest_is_asked(played):
    """The request is answered as always; the stream is what the fault happens to."""
    async with peer(played) as client:
        await client.subscribe()
        played.faults.add(Cut(), at="rest")
        assert (await get(played.rest_url + HISTORY))[0] == 200
        assert await client.end() == ([], None)
    assert played.faults.happened == [(Cut(), "rest")]


def test_of_rest_are_those_that_happen_to_rest_only():
    """The two sorts of faults at the moment `rest` are told apart by one list."""
    assert {each.__name__ for each in OF_REST} == {
        kind.__name__ for kind in kinds() if kind.moments == ("rest",)
    }


# -- from another thread -----------------------------------------------------------------


def test_faults_of_a_local_simulator_are_armed_from_any_thread(tape, tmp_path):
    """Arming, striking, reading what happened and the goodbyes: from the test's own thread."""
    path = tmp_path / "tape.jsonl"
    cut = threading.Event()

    async def read_until_cut(simulator: LocalSimulator) -> int:
        async with peer(simulator) as client:
            await client.subscribe()
            cut.set()
            messages, code = await client.end()
            assert code is None
            return len(messages)

    with LocalSimulator(play=path, speed=1) as simulator:
        simulator.faults.add(Cut(mid_frame=True), at="data", after=20)
        assert asyncio.run(read_until_cut(simulator)) == 20
        cut.clear()
        simulator.faults.add(Mute(), at="data")
        striker = threading.Thread(
            target=lambda: (cut.wait(5), simulator.faults.add(Cut(), at="now"))
        )
        striker.start()
        asyncio.run(read_until_cut(simulator))
        striker.join()
        assert (Cut(mid_frame=True), "data") in simulator.faults.happened
        assert simulator.faults.happened[-1] == (Cut(), "now")
    assert simulator.goodbyes == [None, None]
