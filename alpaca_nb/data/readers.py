"""What comes in, messages or batches, as encoded columns of a frame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from msgspec.structs import astuple

from alpaca_nb.data.batch import Batch, Codes32, Layout, Lexicon
from alpaca_nb.data.columns import AnyArray, ColumnStore, Kind
from alpaca_nb.wire.messages import Message


class MessageReader:
    """Takes messages of one type apart."""

    def __init__(self, layout: Layout) -> None:
        self._message = layout.message
        self._fields = layout.fields

    def read(
        self, messages: Sequence[Message[Any]], store: ColumnStore
    ) -> tuple[list[AnyArray], AnyArray | None]:
        """One array per column, and which messages could be stored (None: all of them)."""
        try:
            return self._encode(messages, store), None
        except Exception:  # whatever is wrong with one message must not cost the others
            kept = np.array([self._can_store(message, store) for message in messages], bool)
            good = [message for message, keep in zip(messages, kept, strict=True) if keep]
            return self._encode(good, store), kept

    def _encode(self, messages: Sequence[Message[Any]], store: ColumnStore) -> list[AnyArray]:
        columns: Iterable[Sequence[Any]] = zip(*map(astuple, messages), strict=True)
        values = list(columns) or [()] * len(self._fields)
        return [store.encode(i, values[field]) for i, field in enumerate(self._fields)]

    def _can_store(self, message: Message[Any], store: ColumnStore) -> bool:
        if not isinstance(message, self._message):
            return False
        try:
            self._encode([message], store)
        except Exception:
            return False
        return True


class BatchReader:
    """Gives the texts of batches the codes that they have in a store.

    What it has looked up in a lexicon it remembers, until a batch has another one.
    """

    def __init__(self, layout: Layout) -> None:
        self._columns = [
            (i, column.kind, *place)
            for i, (column, place) in enumerate(zip(layout.columns, layout.places, strict=True))
        ]
        self._lexicon: Lexicon | None = None
        # By column, the code of each number of the lexicon; -1 where it is not known.
        self._known: dict[int, AnyArray] = {}

    def forget(self) -> None:
        """Look up everything anew: the store has given up its codes."""
        self._lexicon = None

    def read(self, batch: Batch, store: ColumnStore) -> list[AnyArray]:
        """One array per column."""
        if batch.lexicon is not self._lexicon:
            self._known = {}
            self._lexicon = batch.lexicon
        blocks = (batch.numbers, batch.prices, batch.codes)
        arrays: list[AnyArray] = []
        for i, kind, block, row in self._columns:
            values: AnyArray = blocks[block][row]
            if kind is Kind.CATEGORY or kind is Kind.LABELS:
                values = self._codes(i, values, batch.lexicon, store)
            elif kind is Kind.IDENTIFIER:
                values = values.view(np.uint64)
            arrays.append(values)
        return arrays

    def _codes(self, i: int, numbers: Codes32, lexicon: Lexicon, store: ColumnStore) -> AnyArray:
        known = self._known.get(i)
        if known is None or len(known) < len(lexicon.texts):
            known = self._known[i] = _longer(known, len(lexicon.texts))
        codes = known.take(numbers)
        if codes.min() < 0:
            unknown = list(dict.fromkeys(numbers[codes < 0].tolist()))
            new = store.encode_texts(i, [lexicon.texts[number] for number in unknown])
            known = self._known[i] = known.astype(new.dtype, copy=False)
            known[unknown] = new
            codes = known.take(numbers)
        return codes


def joined(pieces: Sequence[tuple[Batch, int, int]]) -> Batch:
    """Rows of batches of one channel and lexicon, one behind the other: from, and up to."""
    first, start, stop = pieces[0]
    if len(pieces) == 1:
        return first if stop - start == len(first) else first.piece(start, stop)
    return Batch(
        first.layout,
        first.lexicon,
        np.concatenate([batch.numbers[:, start:stop] for batch, start, stop in pieces], axis=1),
        np.concatenate([batch.prices[:, start:stop] for batch, start, stop in pieces], axis=1),
        np.concatenate([batch.codes[:, start:stop] for batch, start, stop in pieces], axis=1),
    )


def _longer(known: AnyArray | None, texts: int) -> AnyArray:
    """The same codes, with room for those of some more texts."""
    if known is None:
        return np.full(texts, -1, np.int8)
    longer = np.full(max(texts, len(known) + len(known) // 4), -1, known.dtype)
    longer[: len(known)] = known
    return longer
