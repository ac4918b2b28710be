"""The index of symbols: the rows that looking at each would find, at a fraction of the cost."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from alpaca_nb.data.columns import Column, ColumnStore, Kind, Snapshot
from alpaca_nb.data.index import SymbolIndex, check_symbol
from alpaca_nb.errors import BadInputError

COLUMNS = (Column("timestamp", Kind.TIME), Column("symbol", Kind.CATEGORY))


def make_store(*, maxlen: int = 1_000_000) -> ColumnStore:
    return ColumnStore(COLUMNS, maxlen=maxlen)


def append(store: ColumnStore, symbols: Sequence[str]) -> None:
    times = np.arange(store.snapshot().last, store.snapshot().last + len(symbols))
    store.append([times, store.encode(1, symbols)])


def looked_at_each(held: Snapshot, symbol: str) -> NDArray[np.intp]:
    """The rows of a symbol, found without an index."""
    return np.flatnonzero(held["symbol"] == held.code("symbol", symbol))


def assert_finds_all(index: SymbolIndex, held: Snapshot, symbols: Sequence[str]) -> None:
    for symbol in symbols:
        found = index.rows(held, symbol)
        assert found.dtype == np.intp
        np.testing.assert_array_equal(found, looked_at_each(held, symbol))


# -- what is found -----------------------------------------------------------------------

_SYMBOLS = ("A", "B", "C", "D")
_STEPS = st.lists(
    st.one_of(
        st.lists(st.sampled_from(_SYMBOLS), max_size=40),
        st.sampled_from(["ask", "ask", "keep", "clear", "forget"]),
    ),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(
    steps=_STEPS,
    maxlen=st.integers(1, 100),
    scanned=st.integers(0, 20),
    longest=st.integers(1, 64),
)
def test_it_finds_what_looking_at_each_row_finds(
    steps: list[list[str] | str], maxlen: int, scanned: int, longest: int
) -> None:
    """Whatever is appended, dropped, cleared and asked between, now or of an earlier moment."""
    store, index = make_store(maxlen=maxlen), SymbolIndex(scanned=scanned, longest=longest)
    kept: list[Snapshot] = []
    for step in steps:
        if isinstance(step, list):
            append(store, step)
        elif step == "ask":
            for held in [store.snapshot(), *kept]:
                assert_finds_all(index, held, _SYMBOLS)
        elif step == "keep":
            kept.append(store.snapshot())
        elif step == "clear":
            store.clear()
        else:
            index.clear()
    assert_finds_all(index, store.snapshot(), (*_SYMBOLS, "UNKNOWN"))


@pytest.mark.parametrize("count", [100, 1_000, 40_000, 100_000])
def test_more_symbols_than_a_code_type_holds(count: int) -> None:
    """Codes widen while rows come; the index of those before stays true."""
    store, index = make_store(), SymbolIndex(scanned=10)
    names = [f"S{i}" for i in range(count)]
    for start in range(0, count, count // 4):
        append(store, ["S0", "S3", *names[start : start + count // 4], "S0"])
        assert_finds_all(index, store.snapshot(), ["S0", "S3", names[start], names[-1]])
    assert_finds_all(index, store.snapshot(), names[:: count // 50])


def test_a_change_of_rows_starts_it_again() -> None:
    """Rows of another epoch have other places and codes; those of an earlier one stay right."""
    store, index = make_store(), SymbolIndex(scanned=0)
    append(store, ["A", "B", "A"])
    before = store.snapshot()
    assert index.rows(before, "A").tolist() == [0, 2]
    store.clear()
    append(store, ["B", "A", "B"])
    assert index.rows(store.snapshot(), "A").tolist() == [1]
    assert index.rows(before, "A").tolist() == [0, 2]
    assert index.rows(store.snapshot(), "A").tolist() == [1]


# -- what it costs -----------------------------------------------------------------------


def test_nobody_who_does_not_ask_pays() -> None:
    """There is no index before the first question, and none for a few rows."""
    index, store = SymbolIndex(), make_store()
    append(store, ["A"] * 1_000)
    assert index.rows(store.snapshot(), "A").tolist() == list(range(1_000))
    assert index._known.runs == ()


def test_few_runs_and_each_row_sorted_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked after every piece, the runs grow as the logarithm and so does the work per row."""
    from alpaca_nb.data import index as module

    store, index = make_store(), SymbolIndex(scanned=0, longest=1 << 20)
    worked: list[int] = []
    whole = module._sorted
    monkeypatch.setattr(
        module, "_sorted", lambda held, first, last: (
            worked.append(last - first), whole(held, first, last))[1]
    )  # fmt: skip
    for i in range(1_000):
        append(store, ["A", "B"] * 5)
        index.rows(store.snapshot(), "A")
        assert len(index._known.runs) <= np.log2(i + 1) + 2
    assert sum(worked) <= 10_000 * (np.log2(1_000) + 1)


def test_what_retention_drops_is_forgotten() -> None:
    """Four bytes a row, of no more rows than are held and one run; no run of rows long gone."""
    store, index = make_store(maxlen=10_000), SymbolIndex(scanned=100, longest=2_000)
    for _ in range(300):
        append(store, ["A", "B", "C", "D", "E"] * 100)
        index.rows(store.snapshot(), "A")
        taken = sum(
            part.nbytes for run in index._known.runs for part in (run.order, run.codes, run.bounds)
        )
        assert taken <= 12_000 * 4 + 100 * len(index._known.runs)


# -- while rows come ---------------------------------------------------------------------


def test_while_another_thread_appends() -> None:
    """Readers of all moments find what is there, while rows come as fast as they can."""
    store, index = make_store(maxlen=50_000), SymbolIndex(scanned=500, longest=8_000)
    rng, ended = np.random.default_rng(1), threading.Event()
    names = [f"S{i}" for i in range(300)]
    pieces = [[names[i] for i in rng.integers(0, 300, 997)] for _ in range(20)]
    failures: list[BaseException] = []

    def write() -> None:
        turn = 0
        while not ended.is_set():
            append(store, pieces[turn % 20])
            turn += 1
            if turn % 500 == 0:
                store.clear()

    def read(seed: int) -> None:
        rng, old = np.random.default_rng(seed), store.snapshot()
        try:
            while not ended.is_set():
                held = store.snapshot()
                asked = [names[i] for i in rng.integers(0, 300, 3)]
                assert_finds_all(index, held, asked)
                assert_finds_all(index, old, asked)
                old = held
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write)]
    threads += [threading.Thread(target=read, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    time.sleep(2)
    ended.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert store.snapshot().last > 50_000


# -- which symbols can be asked for ------------------------------------------------------


def held_of(*symbols: str) -> Snapshot:
    store = make_store()
    append(store, symbols)
    return store.snapshot()


def test_symbols_that_can_be_asked_for() -> None:
    """Those the frame was asked for, with rows or without, and those it has rows of."""
    held = held_of("AAPL")
    assert check_symbol("AAPL", ["AAPL", "MSFT"], held) == "AAPL"
    assert check_symbol(" msft ", ["AAPL", "MSFT"], held) == "MSFT"
    assert check_symbol("AAPL", ["MSFT"], held) == "AAPL"
    assert check_symbol("TSLA", ["*"], held) == "TSLA"


@pytest.mark.parametrize(
    ("symbol", "says"),
    [
        ("TSLA", "This frame was not asked for TSLA; it has AAPL, MSFT."),
        ("*", "One symbol by name is needed here, such as 'AAPL', not '*'."),
        (["AAPL", "MSFT"], "A symbol is text such as 'AAPL', not list"),
        ("not one", "is not a symbol"),
        (7, "A symbol is text"),
    ],
)
def test_symbols_that_cannot(symbol: object, says: str) -> None:
    """Any other symbol is one clear sentence, with those there are."""
    with pytest.raises(BadInputError, match=says.replace("*", r"\*")):
        check_symbol(symbol, ["AAPL", "MSFT"], held_of("AAPL"))  # type: ignore[arg-type]


def test_many_symbols_are_not_all_listed() -> None:
    """A frame of hundreds names a few."""
    symbols = [f"S{chr(65 + i)}" for i in range(25)]
    with pytest.raises(BadInputError, match=r"SA, .*, SJ and 15 more\.$"):
        check_symbol("TSLA", symbols, held_of())
