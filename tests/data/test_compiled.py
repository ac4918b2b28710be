"""The compiled functions: there in a while, missed by nobody, and the same as without."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpaca_nb.data import compiled
from alpaca_nb.data.columns import group
from alpaca_nb.data.compiled import Kernels

needs_numba = pytest.mark.skipif(
    importlib.util.find_spec("numba") is None, reason="numba is not installed (alpaca-nb[fast])"
)


@pytest.fixture(scope="module")
def kernels() -> Kernels:
    compiled.warm_up()
    assert compiled.wait_ready(120)
    kernels = compiled.kernels()
    assert kernels is not None
    return kernels


def run(code: str, **environment: str) -> list[str]:
    """What a fresh interpreter prints in which every warning is an error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


WARM_UP = """
import logging, sys, threading
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(name)s %(levelname)s")
from alpaca_nb.data import compiled
from alpaca_nb.data.batch import Lexicon
from alpaca_nb.data.scan import Scanner
compiled.warm_up()
compiled.warm_up()
print(compiled.wait_ready(120), threading.active_count())
scanned = Scanner(Lexicon()).scan([b"any"], [1])
print(scanned.frames, scanned.refused, compiled.kernels() is not None)
"""


@needs_numba
def test_a_later_process_loads_what_an_earlier_one_compiled(kernels: Kernels) -> None:
    """Compiling takes place once; the next process finds the result, and warns of nothing."""
    code = WARM_UP + "scan = compiled.kernels().scan\nprint(sum(scan.stats.cache_misses.values()))"
    assert run(code) == ["True 1", "0 True True", "0"]


def test_switched_off_nothing_is_compiled() -> None:
    """With ALPACA_NB_COMPILED=0 numba is not even imported, and no frame is decoded here."""
    lines = run(WARM_UP + 'print("numba" in sys.modules)', ALPACA_NB_COMPILED="0")
    assert lines == ["False 1", "0 True False", "False"]


def test_without_numba_all_goes_on_without_it() -> None:
    """Where numba is missing, that is logged and nothing else happens."""
    lines = run('import sys\nsys.modules["numba"] = None' + WARM_UP)
    assert lines == ["alpaca_nb.compiled INFO", "False 1", "0 True False"]


@needs_numba
def test_without_a_compiler_all_goes_on_without_it() -> None:
    """Where numba is told not to compile, its functions would be slower than none."""
    lines = run(WARM_UP, NUMBA_DISABLE_JIT="1")
    assert lines == ["alpaca_nb.compiled INFO", "False 1", "0 True False"]


def test_a_numba_that_fails_to_load_stops_nothing(tmp_path: Any) -> None:
    """Whatever numba raises when it is imported ends in the log."""
    (tmp_path / "numba.py").write_text("raise SystemError('initialization failed')")
    lines = run(f"import sys\nsys.path.insert(0, {str(tmp_path)!r})" + WARM_UP)
    assert lines == ["alpaca_nb.compiled INFO", "False 1", "0 True False"]


@needs_numba
def test_where_nothing_can_be_kept_it_compiles_all_the_same(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """A folder that cannot be written to costs the next process its time, and no more."""
    import numba

    (tmp_path / "file").write_text("")
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "file" / "folder"))

    def twice(number: int) -> int:
        return 2 * number

    assert kernels.constants._compiled("int64(int64)")(twice)(21) == 42


def test_it_returns_at_once() -> None:
    """The thread that warms up does not wait; before it has asked, nothing is ready."""
    code = """
import time
from alpaca_nb.data import compiled
print(compiled.wait_ready(5), compiled.kernels())
start = time.perf_counter()
compiled.warm_up()
print(time.perf_counter() - start < 0.1, compiled.kernels())
"""
    assert run(code) == ["False None", "True None"]


# -- rows by symbol ----------------------------------------------------------------------

CODE_TYPES = (np.int8, np.int16, np.int32)


def assert_grouped(kernels: Kernels, codes: Any, times: Any) -> None:
    expected = group(codes, times)
    symbols, last, oldest, newest, ascending = kernels.group_rows(codes, times)
    assert symbols.tolist() == expected.symbols.tolist()
    assert last.tolist() == expected.last.tolist()
    assert oldest.tolist() == expected.oldest.tolist()
    assert newest.tolist() == expected.newest.tolist()
    assert ascending == expected.ascending
    assert (symbols.dtype, last.dtype) == (codes.dtype, expected.last.dtype)


@needs_numba
@settings(max_examples=200, deadline=None)
@given(data=st.data(), code_type=st.sampled_from(CODE_TYPES), rising=st.booleans())
def test_rows_are_grouped_as_numpy_does(
    kernels: Kernels, data: st.DataObject, code_type: Any, rising: bool
) -> None:
    """Symbols, their last rows, their oldest and newest times and their order are the same."""
    most = data.draw(st.sampled_from((1, 9, 100)))
    time = st.integers(-(2**63), 2**63 - 1) | st.integers(0, 5)
    rows = data.draw(st.lists(st.tuples(st.integers(0, most), time), max_size=50))
    times = sorted(time for _, time in rows) if rising else [time for _, time in rows]
    codes = np.array([code for code, _ in rows], code_type)
    assert_grouped(kernels, codes, np.array(times, np.int64))


@needs_numba
@pytest.mark.parametrize("code_type", CODE_TYPES)
def test_many_symbols_and_read_only_rows_are_grouped_too(kernels: Kernels, code_type: Any) -> None:
    """Rows of a snapshot cannot be written to; up to 11,000 symbols are no matter."""
    random = np.random.default_rng(4)
    top = min(11_000, np.iinfo(code_type).max)
    codes = random.integers(0, top, 5_000, endpoint=True).astype(code_type)
    times = random.integers(0, 10**18, 5_000)
    codes.flags.writeable = times.flags.writeable = False
    assert_grouped(kernels, codes, times)
    assert_grouped(kernels, codes[-1:], times[-1:])
