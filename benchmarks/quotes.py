"""The quotes that are sent and kept: made of their number, so that both sides know them.

Quote `i` of a `Tape` has a time and a price of its own. As MessagePack all have the same
length, so that NumPy writes a million of them in the time a socket takes to send them.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alpaca_nb.wire.codec import MSGPACK, decode
from alpaca_nb.wire.messages import Message, Quote

EXCHANGES = "VQPZ"
CONDITIONS = "RA"
STEP_NS = 1_009
"""From one quote to the next: less than a second for a round."""
_STRIDE = 7_919


@dataclass(frozen=True)
class Tape:
    """Quotes without an end, of so many symbols in turn."""

    start_ns: int
    symbols: int = 100
    step_ns: int = STEP_NS

    @functools.cached_property
    def names(self) -> list[str]:
        """The symbols; all have the same length."""
        width = 2 if self.symbols <= 100 else 5
        return [f"S{i:0{width}}" for i in range(self.symbols)]

    def quote(self, i: int) -> Quote[int]:
        """One of them, as a message."""
        bid = 100 + i % 977 / 64
        return Quote(
            symbol=self.names[i * _STRIDE % self.symbols],
            bid_price=bid,
            bid_size=1 + i % 101,
            bid_exchange=EXCHANGES[i % 4],
            ask_price=bid + 0.015625,
            ask_size=1 + i % 97,
            ask_exchange=EXCHANGES[(i + 1) % 4],
            conditions=[CONDITIONS[i // 8 % 2]],
            tape="C",
            timestamp=self.start_ns + i * self.step_ns,
        )

    def times(self, start: int, stop: int) -> NDArray[np.int64]:
        """The time of each of some quotes."""
        return self.start_ns + np.arange(start, stop, dtype=np.int64) * self.step_ns

    def bids(self, start: int, stop: int) -> NDArray[np.float64]:
        """The bid of each of some quotes."""
        bids: NDArray[np.float64] = 100 + np.arange(start, stop) % 977 / 64
        return bids

    def frames(self, start: int, stop: int, per_frame: int) -> NDArray[np.uint8]:
        """WebSocket frames of MessagePack, as a server sends them: one row each."""
        count = (stop - start) // per_frame
        array_head = _array_head(per_frame)
        messages = self._messages(start, start + count * per_frame)
        head = header(len(array_head) + per_frame * messages.shape[1]) + array_head
        frames = np.empty((count, len(head) + per_frame * messages.shape[1]), np.uint8)
        frames[:, : len(head)] = np.frombuffer(head, np.uint8)
        frames[:, len(head) :] = messages.reshape(count, -1)
        return frames

    def _messages(self, start: int, stop: int) -> NDArray[np.uint8]:
        i = np.arange(start, stop, dtype=np.int64)
        template = MSGPACK.encode([self.quote(0)])[1:]
        messages = np.empty((len(i), len(template)), np.uint8)
        messages[:] = np.frombuffer(template, np.uint8)
        names = np.frombuffer("".join(self.names).encode(), np.uint8).reshape(self.symbols, -1)
        bids = self.bids(start, stop)
        seconds, nanoseconds = np.divmod(self.times(start, stop), 1_000_000_000)
        exchanges = np.frombuffer(EXCHANGES.encode(), np.uint8)
        values = {
            b"\xa1S" + bytes([0xA0 + names.shape[1]]): names[i * _STRIDE % self.symbols],
            b"\xa2bp\xcb": _big_endian(bids, ">f8"),
            b"\xa2bs": (1 + i % 101)[:, None],
            b"\xa2bx\xa1": exchanges[i % 4][:, None],
            b"\xa2ap\xcb": _big_endian(bids + 0.015625, ">f8"),
            b"\xa2as": (1 + i % 97)[:, None],
            b"\xa2ax\xa1": exchanges[(i + 1) % 4][:, None],
            b"\xa1c\x91\xa1": np.frombuffer(CONDITIONS.encode(), np.uint8)[i // 8 % 2][:, None],
            b"\xa1t\xd7\xff": _big_endian(nanoseconds << 34 | seconds, ">u8"),
        }
        for key, value in values.items():
            at = template.index(key) + len(key)
            messages[:, at : at + value.shape[1]] = value
        return messages

    def packed(self, start: int, stop: int) -> bytes:
        """Some quotes as one array in MessagePack."""
        return _array_head(stop - start) + self._messages(start, stop).tobytes()

    def batches(self, count: int, size: int = 1_000) -> Iterator[list[Message[Any]]]:
        """Messages as the wire gives them, decoded from MessagePack."""
        for start in range(0, count, size):
            yield decode(self.packed(start, min(start + size, count)))  # type: ignore[misc]


def _array_head(length: int) -> bytes:
    return struct.pack(">BH", 0xDC, length) if length > 15 else struct.pack(">B", 0x90 + length)


def _big_endian(values: NDArray[Any], kind: str) -> NDArray[np.uint8]:
    return values.astype(kind).view(np.uint8).reshape(len(values), -1)


def header(length: int, *, text: bool = False, compressed: bool = False) -> bytes:
    """The first bytes of a server's frame that holds a whole message."""
    first = 0x80 | (0x40 if compressed else 0) | (1 if text else 2)
    if length < 126:
        return struct.pack(">BB", first, length)
    if length < 1 << 16:
        return struct.pack(">BBH", first, 126, length)
    return struct.pack(">BBQ", first, 127, length)
