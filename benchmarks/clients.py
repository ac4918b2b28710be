"""The contestants of `stream`: each a client in a process of its own, on a core of its own.

Everyone reads the socket on a thread, as in a notebook, while the main thread waits. Peers
count what they are given and store nothing; floors store ten columns and do nothing else.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np

from benchmarks.measuring import CLIENT_CORE, pin
from benchmarks.quotes import Tape

POLL_S = 0.02
"""How often it is asked whether everything has come."""
STALL_S = 20.0
"""Nothing new for so long means that something is lost."""
KEPT = 1_000_000
"""How many rows are kept."""

WEBSOCKETS = {"ALPACA_NB_TRANSPORT": "websockets", "ALPACA_NB_COMPILED": "0"}
"""What makes us use nothing that is optional."""
FAST: dict[str, str] = {}


@dataclass(frozen=True)
class Contestant:
    """Who takes part: how it is made, in what environment, and how much it can take."""

    name: str
    make: Callable[[Setting], Client]
    kind: str = "peer"
    speed: float = 1.0
    """By how much more a round must bring than for the slowest, to be long enough."""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Setting:
    """Where to connect and what to expect."""

    port: int
    tape: Tape
    per_frame: int
    frames: int = 1
    """Among how many frames the symbols are spread."""
    handler: bool = False
    """Whether a slow handler listens to one of the symbols."""

    @property
    def url(self) -> str:
        """The address of the server."""
        return f"ws://127.0.0.1:{self.port}/v2/sip"


@dataclass(frozen=True)
class Take:
    """Wait for quotes `start` to `stop`, and check them."""

    start: int
    stop: int
    busy: bool = False
    """Whether the main thread has something better to do meanwhile."""


@dataclass(frozen=True)
class Toil:
    """Be busy in pure Python for so long, and tell how much has come by then."""

    seconds: float


@dataclass(frozen=True)
class Look:
    """Be busy for so long, look at the newest row now and then, and tell how old it was (ns)."""

    seconds: float
    every_s: float = 0.05


@dataclass(frozen=True)
class Taken:
    """What it took: the processor's and the wall's seconds."""

    cpu_s: float
    wall_s: float


class WrongError(Exception):
    """Something was lost or changed on the way."""


class Client(ABC):
    """One contestant while it runs."""

    @abstractmethod
    def start(self) -> None:
        """Connect and subscribe; whether that is done is known to the server."""

    @abstractmethod
    def seen(self) -> int:
        """How many messages have come."""

    def check(self, tape: Tape, start: int, stop: int) -> None:  # noqa: B027 (most have nothing to do)
        """Raise WrongError unless what came is what was sent."""

    def newest_ns(self) -> int | None:
        """The time of the newest row that can be looked at; None where nothing is stored."""
        return None

    def cpu_elsewhere_s(self) -> float:
        """What other processes have worked for this one."""
        return 0.0

    def stop(self) -> None:  # noqa: B027 (most have nothing to do)
        """Disconnect, or leave it to the end of the process."""


def run(pipe: Connection, contestant: Contestant, setting: Setting) -> None:
    """A contestant's process: connect, then answer one order after the other."""
    os.environ.update(contestant.environment)
    pin(CLIENT_CORE)
    client = contestant.make(setting)
    client.start()
    pipe.send("started")
    while (order := pipe.recv()) is not None:
        if isinstance(order, Look):
            pipe.send(_look(client, order))
        elif isinstance(order, Toil):
            pipe.send(_toil(client, order.seconds))
        else:
            pipe.send("ready")
            pipe.send(_take(client, setting.tape, order))
    client.stop()


def _look(client: Client, order: Look) -> list[int]:
    until_s, ages = time.perf_counter() + order.seconds, []
    while time.perf_counter() < until_s:
        _spin(order.every_s)
        if (newest_ns := client.newest_ns()) is not None:
            ages.append(time.time_ns() - newest_ns)
    return ages


def _take(client: Client, tape: Tape, order: Take) -> Taken:
    start_s, start_cpu_s = time.perf_counter(), time.process_time() + client.cpu_elsewhere_s()
    seen, changed_s = client.seen(), start_s
    while seen < order.stop:
        if order.busy:
            _spin(POLL_S)
        else:
            time.sleep(POLL_S)
        now = client.seen()
        if now > seen:
            seen, changed_s = now, time.perf_counter()
        elif time.perf_counter() - changed_s > STALL_S:
            raise WrongError(f"{seen:,} of {order.stop:,} came")
    cpu_s = time.process_time() + client.cpu_elsewhere_s() - start_cpu_s
    taken = Taken(cpu_s, time.perf_counter() - start_s)
    if seen != order.stop:
        raise WrongError(f"{seen:,} came, {order.stop:,} were sent")
    client.check(tape, order.start, order.stop)
    return taken


def _toil(client: Client, seconds: float) -> int:
    before = client.seen()
    _spin(seconds)
    return client.seen() - before


def _spin(seconds: float) -> None:
    until_s, x = time.perf_counter() + seconds, 0
    while time.perf_counter() < until_s:
        for i in range(200):
            x = (x * 31 + i) % 1_000_003


# -- ours --------------------------------------------------------------------------------


class Ours(Client):
    """alpaca_nb from the socket to frames, with all that it does on the way."""

    def __init__(self, setting: Setting) -> None:
        from alpaca_nb import StreamClient

        self._setting = setting
        self._client = StreamClient(api_key="key", api_secret="secret", url=setting.url)
        names = setting.tape.names
        if setting.handler:
            self._client.subscribe("quotes", names[:1], _slow, policy="latest")
        self._frames = [
            self._client.frame("quotes", names[i :: setting.frames], maxlen=KEPT)
            for i in range(setting.frames)
        ]

    def start(self) -> None:
        if os.environ.get("ALPACA_NB_COMPILED") != "0":
            _wait_for_compiled()
        self._client.connect()

    def seen(self) -> int:
        if len(self._frames) == 1:
            return self._frames[0].position
        # To look at each of many frames writes what they have staged: work of the looking.
        return self._client.status.received

    def check(self, tape: Tape, start: int, stop: int) -> None:
        if len(self._frames) > 1:
            if (held := sum(frame.position for frame in self._frames)) != stop:
                raise WrongError(f"the frames have {held:,} of {stop:,} rows")
            return
        (frame,) = self._frames
        start = max(start, stop - KEPT)
        rows = frame.rows_since(start)
        same = np.array_equal(rows["timestamp"], tape.times(start, stop))
        if not same or not np.array_equal(rows["bid_price"], tape.bids(start, stop)):
            raise WrongError("the frame holds other times or prices than were sent")

    def newest_ns(self) -> int | None:
        times = self._frames[0].snapshot()["timestamp"]
        return int(times[-1]) if len(times) else None

    def stop(self) -> None:
        self._client.disconnect()


def _slow(quote: object) -> None:
    time.sleep(0.05)


def _wait_for_compiled() -> None:
    try:
        from alpaca_nb.data import compiled
    except ImportError:
        return  # there is nothing to wait for
    compiled.warm_up()
    compiled.wait_ready(60)


# -- alpaca-py ---------------------------------------------------------------------------


class AlpacaPy(Client):
    """alpaca-py as it is by default: MessagePack, compressed, one coroutine for each message."""

    def __init__(self, setting: Setting, *, raw: bool) -> None:
        from alpaca.data.live.stock import StockDataStream

        self._stream = StockDataStream("key", "secret", raw_data=raw, url_override=setting.url)
        self._count, self._sum_ns, self._sum_bids = 0, 0, 0.0
        handler = self._take_raw if raw else self._take_model
        self._stream.subscribe_quotes(handler, *setting.tape.names)

    async def _take_raw(self, quote: Any) -> None:
        self._count += 1
        self._sum_bids += quote["bp"]

    async def _take_model(self, quote: Any) -> None:
        self._count += 1
        self._sum_bids += quote.bid_price

    def start(self) -> None:
        threading.Thread(target=self._stream.run, daemon=True).start()

    def seen(self) -> int:
        return self._count

    def check(self, tape: Tape, start: int, stop: int) -> None:
        expected = float(tape.bids(start, stop).sum())  # exact: prices are 64ths
        total, self._sum_bids = self._sum_bids, 0.0
        if total != expected:
            raise WrongError(f"the bids add up to {total}, not {expected}")


# -- bare libraries and floors -----------------------------------------------------------


class Sink(ABC):
    """What is done with the frames of one look at the socket."""

    @abstractmethod
    def take(self, frames: Sequence[bytes]) -> None:
        """Take frames of data."""

    def finish(self) -> None:  # noqa: B027 (most have nothing to do)
        """Nothing more is on its way."""

    @abstractmethod
    def seen(self) -> int:
        """How many messages have come."""

    def check(self, tape: Tape, start: int, stop: int) -> None:  # noqa: B027 (most have nothing to do)
        """Raise WrongError unless what came is what was sent."""


class Counting(Sink):
    """Only count: what the library itself costs."""

    def __init__(self, per_frame: int) -> None:
        self._per_frame = per_frame
        self._frames = 0

    def take(self, frames: Sequence[bytes]) -> None:
        self._frames += len(frames)

    def seen(self) -> int:
        return self._frames * self._per_frame


class TenColumns(Sink):
    """The floor of what stores: typed decoding and ten numpy columns, a thousand rows at a time."""

    AT_ONCE = 1_000
    FLOATS = ("bid_price", "ask_price")
    SIZES = ("bid_size", "ask_size")
    CODES = ("symbol", "bid_exchange", "ask_exchange", "tape")

    def __init__(self) -> None:
        from alpaca_nb.wire.messages import Quote

        self._decode = msgspec.msgpack.Decoder(list[Quote[msgspec.msgpack.Ext]]).decode
        self._staged: list[Any] = []
        self._rows = 0
        self._columns: dict[str, Any] = {
            **{name: np.empty(KEPT, np.float64) for name in self.FLOATS},
            **{name: np.empty(KEPT, np.int64) for name in (*self.SIZES, "timestamp")},
            **{name: np.empty(KEPT, np.int16) for name in (*self.CODES, "conditions")},
        }
        self._codes: dict[str, _Codes] = {name: _Codes() for name in (*self.CODES, "conditions")}

    def take(self, frames: Sequence[bytes]) -> None:
        staged, decode = self._staged, self._decode
        for frame in frames:
            staged += decode(frame)
        if len(staged) >= self.AT_ONCE:
            self._write()

    def finish(self) -> None:
        if self._staged:
            self._write()

    def seen(self) -> int:
        return self._rows + len(self._staged)

    def check(self, tape: Tape, start: int, stop: int) -> None:
        rows = np.arange(max(start, stop - KEPT), stop) % KEPT
        begin = max(start, stop - KEPT)
        same = np.array_equal(self._columns["timestamp"][rows], tape.times(begin, stop))
        if not same or not np.array_equal(self._columns["bid_price"][rows], tape.bids(begin, stop)):
            raise WrongError("the columns hold other times or prices than were sent")

    def _write(self) -> None:
        staged, self._staged = self._staged, []
        start = self._rows % KEPT
        if start + len(staged) > KEPT:  # around the end of the ring
            split = KEPT - start
            self._write_at(start, staged[:split])
            self._write_at(0, staged[split:])
        else:
            self._write_at(start, staged)
        self._rows += len(staged)

    def _write_at(self, start: int, quotes: list[Any]) -> None:
        count, columns = len(quotes), self._columns
        to = slice(start, start + count)
        for name in self.FLOATS:
            columns[name][to] = np.fromiter(map(attrgetter(name), quotes), np.float64, count)
        for name in self.SIZES:
            columns[name][to] = np.fromiter(map(attrgetter(name), quotes), np.int64, count)
        for name in self.CODES:
            code = self._codes[name].__getitem__
            texts = map(attrgetter(name), quotes)
            columns[name][to] = np.fromiter(map(code, texts), np.int16, count)
        code = self._codes["conditions"].__getitem__
        texts = map(",".join, map(attrgetter("conditions"), quotes))
        columns["conditions"][to] = np.fromiter(map(code, texts), np.int16, count)
        packed = np.frombuffer(b"".join([quote.timestamp.data for quote in quotes]), ">u8")
        seconds = (packed & np.uint64(0x3_FFFF_FFFF)).astype(np.int64)
        columns["timestamp"][to] = seconds * 1_000_000_000 + (packed >> np.uint64(34)).astype(
            np.int64
        )


class _Codes(dict[str, int]):
    def __missing__(self, text: str) -> int:
        self[text] = code = len(self)
        return code


class OnLoop(Client):
    """A client whose connection lives on an event loop in a thread."""

    def __init__(self, setting: Setting, sink: Sink) -> None:
        self._setting = setting
        self._sink = sink
        self._ready = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        threading.Thread(target=asyncio.run, args=(self._main(),), daemon=True).start()

    def seen(self) -> int:
        return self._sink.seen()

    def check(self, tape: Tape, start: int, stop: int) -> None:
        self._sink.finish()
        self._sink.check(tape, start, stop)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self.connect()

    @abstractmethod
    async def connect(self) -> None:
        """Connect, hold the conversation, and read until the end."""

    def talk(self, frame: bytes) -> list[bytes]:
        """What to answer to a frame that comes before data does."""
        (message,) = msgspec.msgpack.decode(frame)
        if message["T"] == "success" and message["msg"] == "connected":
            return [_request(action="auth", key="key", secret="secret")]
        if message["T"] == "success":
            return [_request(action="subscribe", quotes=self._setting.tape.names)]
        self._ready = True
        return []

    def take(self, frames: Sequence[bytes], answer: Callable[[bytes], object]) -> None:
        """Frames as they come, the conversation first."""
        if self._ready:
            self._sink.take(frames)
            return
        for i, frame in enumerate(frames):
            if self._ready:
                self._sink.take(frames[i:])
                return
            for request in self.talk(frame):
                answer(request)


def _request(**request: Any) -> bytes:
    return msgspec.msgpack.encode(request)


_HEADERS = {"Content-Type": "application/msgpack"}


class BareWebsockets(OnLoop):
    """`websockets` as everybody uses it: `await recv()` for each frame, uncompressed."""

    async def connect(self) -> None:
        import websockets

        async with websockets.connect(
            self._setting.url, additional_headers=_HEADERS, compression=None, max_size=None
        ) as socket:
            while not self._ready:
                for request in self.talk(await socket.recv(decode=False)):
                    await socket.send(request)
            while True:
                self._sink.take((await socket.recv(decode=False),))


class BarePicows(OnLoop):
    """`picows` as it is meant: one call for each frame."""

    async def connect(self) -> None:
        import picows

        client = self

        class Listener(picows.WSListener):
            def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
                client.take(
                    (frame.get_payload_as_bytes(),),
                    lambda data: transport.send(picows.WSMsgType.BINARY, data),
                )

        transport, _ = await picows.ws_connect(
            Listener, self._setting.url, extra_headers=_HEADERS, max_frame_size=1 << 26
        )
        await transport.wait_disconnected()


class OurTransport(OnLoop):
    """What our transport calls, and nothing else of ours."""

    async def connect(self) -> None:
        connection: Any = None
        waiting: list[bytes] = []

        def answer(request: bytes) -> None:
            if connection is None:
                waiting.append(request)
            else:
                _send(connection, request)

        connection = await _connector()(
            self._setting.url,
            headers=_HEADERS,
            on_frames=lambda frames: self.take(frames, answer),
            compression=False,
        )
        for request in waiting:
            _send(connection, request)
        await asyncio.Event().wait()


_SENDING: set[asyncio.Task[Any]] = set()


def _send(connection: Any, request: bytes) -> None:
    task = asyncio.ensure_future(connection.send(request))
    _SENDING.add(task)
    task.add_done_callback(_SENDING.discard)


def _connector() -> Callable[..., Any]:
    from alpaca_nb.feed import transport

    return transport.connect_websocket


# -- who takes part ----------------------------------------------------------------------


def _raw(setting: Setting) -> Client:
    return AlpacaPy(setting, raw=True)


def _models(setting: Setting) -> Client:
    return AlpacaPy(setting, raw=False)


def _recv(setting: Setting) -> Client:
    return BareWebsockets(setting, Counting(setting.per_frame))


def _picows(setting: Setting) -> Client:
    return BarePicows(setting, Counting(setting.per_frame))


def _floor(setting: Setting) -> Client:
    return OurTransport(setting, TenColumns())


RAW = Contestant("alpaca-py, raw dicts", _raw, "peer", 1.0)
MODELS = Contestant("alpaca-py, models", _models, "peer", 0.5)
RECV = Contestant("websockets alone, recv()", _recv, "peer", 3.0)
PICOWS = Contestant("picows alone", _picows, "peer", 20.0)
FLOOR = Contestant(
    "floor: our websockets transport, msgspec, ten columns", _floor, "floor", 8.0, WEBSOCKETS
)
FLOOR_PICOWS = Contestant("floor: our picows transport, msgspec, ten columns", _floor, "floor", 8.0)
OURS = Contestant("alpaca_nb", Ours, "ours", 8.0, WEBSOCKETS)
OURS_FAST = Contestant("alpaca_nb[fast]", Ours, "ours", 60.0, FAST)
OURS_COMPILED = Contestant(
    "alpaca_nb[fast], forced to websockets",
    Ours,
    "ours",
    60.0,
    {"ALPACA_NB_TRANSPORT": "websockets"},
)
