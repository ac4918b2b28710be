"""Messages of one channel as columns, on their way from the wire to frames.

A batch is what one look at the socket brought: three arrays whatever the channel, so that it
is cut, sorted and joined in three steps. Texts are numbered by one `Lexicon` for the whole
stream; a frame translates these numbers into its own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from alpaca_nb.data.columns import Codes, Column, Kind, columns_of, encode_numbers
from alpaca_nb.wire.messages import CHANNEL_OF, Message

Codes32 = NDArray[np.int32]
"""Numbers that a lexicon gave."""


class Lexicon:
    """Texts of one stream numbered as they first occur: symbols, exchanges, conditions alike.

    Written by the thread that receives. A number once given keeps its meaning for ever.
    """

    def __init__(self) -> None:
        self._codes = Codes()
        self.texts: list[str] = []
        """The text of each number."""

    def __len__(self) -> int:
        return len(self._codes)

    def code(self, text: str) -> int:
        """The number of a text. Raises TypeError for what is no text."""
        code = self._codes[text]
        if code == len(self.texts):
            self.texts.append(text)
        return code

    def encode(self, texts: Iterable[str]) -> Codes32:
        """The numbers of texts. Raises TypeError if any of them is no text."""
        try:
            return np.fromiter(map(self._codes.__getitem__, texts), np.int32)
        finally:
            if len(self.texts) != len(self._codes):
                self.texts += list(self._codes)[len(self.texts) :]


class Layout:
    """Where the columns of a channel lie in its batches; one object per channel.

    `numbers` (int64) hold times, counts and identifiers (as if signed), and in their last row
    the arrival; `prices` (float64) what is measured; `codes` (int32) texts.
    """

    def __init__(self, message: type[Message[Any]]) -> None:
        self.message = message
        self.channel = CHANNEL_OF[message].name
        self.columns: tuple[Column, ...] = columns_of(message)
        """Those of the message, in the order of frames."""
        counts = [0, 0, 0]
        places = []
        for column in self.columns:
            block = _BLOCK_OF[column.kind]
            places.append((block, counts[block]))
            counts[block] += 1
        self.places: tuple[tuple[int, int], ...] = tuple(places)
        """For each column its array (0 numbers, 1 prices, 2 codes) and the row in it."""
        self.rows = (counts[0] + 1, counts[1], counts[2])
        """How many rows the arrays have."""
        names = [column.name for column in self.columns]
        self.time = self.places[names.index("timestamp")][1]
        """The row of `numbers` that holds the time stamps."""
        self.symbol = self.places[names.index("symbol")][1]
        """The row of `codes` that holds the symbols."""
        fields = [field.name for field in msgspec.structs.fields(message)]
        self.fields = tuple(fields.index(name) for name in names)
        """For each column the number of its field in the message."""
        self.readers = tuple(map(_reader_of, names))
        """For each column what reads its values from messages."""


def _reader_of(field: str) -> Callable[[Sequence[Message[Any]]], list[Any]]:
    """A function that reads one field of many messages.

    Made of text, because an attribute that stands in the code is read in 8 ns, half of what
    one named by a variable costs and a fifth of its share in taking whole messages apart.
    """
    reader: Callable[[Sequence[Message[Any]]], list[Any]]
    reader = eval(f"lambda messages: [message.{field} for message in messages]")
    return reader


_NUMBERS, _PRICES, _CODES = range(3)
_BLOCK_OF: Final = {
    Kind.TIME: _NUMBERS,
    Kind.INT: _NUMBERS,
    Kind.IDENTIFIER: _NUMBERS,
    Kind.FLOAT: _PRICES,
    Kind.CATEGORY: _CODES,
    Kind.LABELS: _CODES,
}


@functools.cache
def layout_of(message: type[Message[Any]]) -> Layout:
    """The layout of the batches of a message type."""
    return Layout(message)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Batch:
    """Messages of one channel in the order they came, as columns. Nobody writes to them."""

    layout: Layout
    lexicon: Lexicon
    numbers: NDArray[np.int64]
    prices: NDArray[np.float64]
    codes: Codes32

    def __len__(self) -> int:
        return int(self.numbers.shape[1])

    def __repr__(self) -> str:
        return f"Batch({self.layout.channel}, {len(self)} rows)"

    @property
    def times(self) -> NDArray[np.int64]:
        """The time stamps (ns since 1970, UTC)."""
        times: NDArray[np.int64] = self.numbers[self.layout.time]
        return times

    @property
    def received(self) -> NDArray[np.int64]:
        """When each came (ns since 1970, UTC)."""
        received: NDArray[np.int64] = self.numbers[-1]
        return received

    @property
    def symbols(self) -> Codes32:
        """The symbols, by their numbers in the lexicon."""
        symbols: Codes32 = self.codes[self.layout.symbol]
        return symbols

    def piece(self, start: int, stop: int) -> Batch:
        """Some rows that follow each other; nothing is copied."""
        return Batch(
            self.layout,
            self.lexicon,
            self.numbers[:, start:stop],
            self.prices[:, start:stop],
            self.codes[:, start:stop],
        )

    def take(self, rows: NDArray[np.intp]) -> Batch:
        """Some rows, in the order in which they are named."""
        return Batch(
            self.layout,
            self.lexicon,
            self.numbers.take(rows, axis=1),
            self.prices.take(rows, axis=1),
            self.codes.take(rows, axis=1),
        )


def batch_of(
    messages: Sequence[Message[Any]], received: NDArray[np.int64], lexicon: Lexicon
) -> Batch:
    """Messages of one type, at least one, as a batch; `received` says when each came.

    Raises TypeError, ValueError or OverflowError if any of them has a value that no column
    can hold.
    """
    layout = layout_of(type(messages[0]))
    count = len(messages)
    blocks = (
        np.empty((layout.rows[0], count), np.int64),
        np.empty((layout.rows[1], count), np.float64),
        np.empty((layout.rows[2], count), np.int32),
    )
    for column, (block, row), read in zip(
        layout.columns, layout.places, layout.readers, strict=True
    ):
        values = read(messages)
        if column.kind is Kind.CATEGORY:
            blocks[block][row] = lexicon.encode(values)
        elif column.kind is Kind.LABELS:
            blocks[block][row] = lexicon.encode(map(",".join, values))
        else:
            numbers = encode_numbers(column.kind, values)
            blocks[block][row] = numbers.view(np.int64) if block == _NUMBERS else numbers
    blocks[_NUMBERS][-1] = received
    return Batch(layout, lexicon, *blocks)
