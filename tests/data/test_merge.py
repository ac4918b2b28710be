"""Which rows are the same, and where one that comes late belongs."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpaca_nb.data.columns import Column, ColumnStore, Kind, group
from alpaca_nb.data.latest import LatestRows
from alpaca_nb.data.merge import AGAIN, NEW, Identity, differ, is_in, places

COLUMNS = (
    Column("timestamp", Kind.TIME),
    Column("symbol", Kind.CATEGORY),
    Column("trade_id", Kind.IDENTIFIER),
    Column("price", Kind.FLOAT),
    Column("received", Kind.TIME),
)
RECORD = Identity((0, 1, 2, 3))
NUMBERED = Identity((0, 1, 2, 3), key=(0, 1, 2), number=2)

Row = tuple[int, str, int, float]


def encode(store: ColumnStore, rows: list[Row]) -> list[Any]:
    columns = list(zip(*rows, strict=True)) or [()] * 4
    return [store.encode(i, list(values)) for i, values in enumerate(columns)] + [
        np.arange(len(rows))
    ]


def pair(identity: Identity, held: list[Row], new: list[Row]) -> list[int]:
    store = ColumnStore(COLUMNS, maxlen=1_000)
    return identity.pair(encode(store, held), encode(store, new)).tolist()


def repeated(identity: Identity, held: list[Row], new: list[Row]) -> list[bool]:
    """What a store that holds some rows says of others; each row once on its own and at once."""
    store, latest = ColumnStore(COLUMNS, maxlen=100_000), LatestRows(COLUMNS)
    arrays = encode(store, held)
    before, now = store.snapshot(), store.appended(arrays)
    latest.apply(latest.appended(arrays, held=before, now=now, late=False))
    store.publish(now)
    arrays = encode(store, new)
    groups = group(arrays[1], arrays[0])
    found = identity.repeated(store.snapshot(), arrays, groups, latest.newest(groups))
    return [False] * len(new) if found is None else found.tolist()


# -- where a row belongs -----------------------------------------------------------------


def test_a_late_row_stands_behind_all_that_are_not_younger() -> None:
    """Among rows in order it stands where its time says, behind others of that time."""
    held = np.array([10, 20, 20, 30])
    assert places(held, np.array([5, 10, 20, 25, 30, 40])).tolist() == [0, 1, 3, 3, 4, 4]
    assert places(np.empty(0, np.int64), np.array([1, 2])).tolist() == [0, 0]


def test_rows_that_came_out_of_order_do_not_draw_others_to_them() -> None:
    """A row held that came late itself does not say where the stream was."""
    held = np.array([10, 40, 15, 50])
    assert places(held, np.array([20, 45])).tolist() == [1, 3]


@given(st.lists(st.integers(0, 50)), st.lists(st.integers(0, 50)))
def test_membership(values: list[int], wanted: list[int]) -> None:
    """`is_in` says of each value whether it is among the wanted ones."""
    found = is_in(np.array(values, np.int64), np.array(wanted, np.int64))
    assert found.tolist() == [value in wanted for value in values]


def test_numbers_that_are_none_equal_each_other() -> None:
    """Two records that both have NaN in a field do not differ by it."""
    ours, theirs = [np.array([np.nan, 1.0])], [np.array([np.nan, 2.0])]
    assert differ(ours, theirs, [0]).tolist() == [False, True]


# -- the rows held that history repeats --------------------------------------------------


def test_equal_records_are_told_by_their_count() -> None:
    """Of three equal records, one of which is held, two are new."""
    row = (1, "A", 0, 1.5)
    assert pair(RECORD, [row], [row, row, row]) == [0, NEW, NEW]
    assert pair(RECORD, [row, row], [row]) == [0]
    assert pair(RECORD, [row], [(1, "A", 0, 2.5), (1, "B", 0, 1.5), (2, "A", 0, 1.5)]) == [NEW] * 3


def test_a_key_is_one_row() -> None:
    """With a number the values do not matter, and the second of two new rows is the first again."""
    assert pair(NUMBERED, [(1, "A", 7, 1.5)], [(1, "A", 7, 9.9), (1, "A", 7, 1.5)]) == [0, 0]
    assert pair(NUMBERED, [], [(1, "A", 7, 1.5), (1, "A", 7, 1.5), (1, "A", 8, 1.5)]) == [
        NEW,
        AGAIN,
        NEW,
    ]


def test_without_a_number_the_whole_record_counts() -> None:
    """Rows whose number is 0 are told by all their fields, and by their count."""
    held = [(1, "A", 0, 1.5), (1, "A", 7, 1.5)]
    new = [(1, "A", 0, 2.5), (1, "A", 0, 1.5), (1, "A", 0, 1.5), (1, "A", 7, 1.0)]
    assert pair(NUMBERED, held, new) == [NEW, 0, NEW, 1]


ROWS = st.lists(
    st.tuples(
        st.integers(0, 4), st.sampled_from("AB"), st.integers(0, 2), st.sampled_from([1.0, 2.0])
    ),
    max_size=25,
)


@given(ROWS, ROWS)
def test_pairs_are_those_of_multisets(held: list[Row], new: list[Row]) -> None:
    """As many new records are new as there are more of them than are held."""
    pairs = pair(RECORD, held, new)
    surplus = Counter(new) - Counter(held)
    assert Counter(row for row, at in zip(new, pairs, strict=True) if at == NEW) == surplus
    paired = [at for at in pairs if at >= 0]
    assert len(set(paired)) == len(paired)
    assert all(held[at] == row for row, at in zip(new, pairs, strict=True) if at >= 0)


# -- what was sent twice -----------------------------------------------------------------


def test_a_row_of_before_is_found() -> None:
    """A row that is held already, or stands in the same batch before, was sent twice."""
    held = [(i, "A", i, 1.0) for i in range(1, 9)]
    for identity in (RECORD, NUMBERED):
        assert repeated(identity, held, [(5, "A", 5, 1.0), (9, "A", 9, 1.0)]) == [True, False]
        again = [(9, "A", 9, 1.0), (10, "A", 10, 1.0), (9, "A", 9, 1.0)]
        assert repeated(identity, held, again) == [False, False, True]


def test_only_numbered_rows_are_recognised_by_a_number() -> None:
    """Rows without a number are never taken for one another."""
    held = [(5, "A", 0, 1.0)]
    assert repeated(NUMBERED, held, [(5, "A", 0, 1.0), (5, "A", 0, 1.0)]) == [False, False]
    assert repeated(NUMBERED, held, [(5, "A", 1, 1.0), (5, "A", 1, 2.0)]) == [False, True]


def test_equal_records_of_a_coarse_clock_are_several() -> None:
    """Where times tell only milliseconds, equal records are usual and all of them are kept."""
    ms = 1_000_000
    held = [(5 * ms, "A", 0, 1.0)]
    assert repeated(RECORD, held, [(5 * ms, "A", 0, 1.0)]) == [False]
    assert repeated(RECORD, [*held, (6 * ms + 1, "A", 0, 1.0)], held) == [True]


def test_a_reader_that_is_far_behind() -> None:
    """Also a row that stands thousands of rows before is found, as after a long repair."""
    held = [(i, "A", i, 1.0) for i in range(1, 40_000)]
    assert repeated(NUMBERED, held, [(50, "A", 50, 1.0), (51, "A", 50, 1.0)]) == [True, False]


@pytest.mark.parametrize("identity", [RECORD, NUMBERED])
@given(held=ROWS, new=ROWS)
def test_repeated_rows_are_those_of_a_set(
    identity: Identity, held: list[Row], new: list[Row]
) -> None:
    """What is found is exactly what a plain set of keys would find."""

    def key(row: Row) -> Any:
        return row if identity is RECORD else row[:3]

    seen = {key(row) for row in held}
    expected = []
    for row in new:
        expected.append(key(row) in seen and (identity is RECORD or row[2] > 0))
        seen.add(key(row))
    if not any(row[0] % 1_000_000 for row in [*held, *new]) and identity is RECORD:
        expected = [False] * len(new)
    assert repeated(identity, held, new) == expected
