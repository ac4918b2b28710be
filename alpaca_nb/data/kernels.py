"""What numba compiles; nothing else imports numba, and only `data.compiled` this module.

Importing it compiles, or loads what an earlier process compiled and kept. The functions hold
the interpreter lock: beside a busy main thread, giving it back costs up to 5 ms a time. So
each call is to take less than a millisecond, which its callers see to.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from numba import types
from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., Any])
AnyArray = NDArray[Any]

if numba.config.DISABLE_JIT:
    raise ImportError("numba is told not to compile (NUMBA_DISABLE_JIT)")


def _compiled(*signatures: Any) -> Callable[[Function], Function]:
    """Compile for these types now, and keep the result for the next process if possible."""

    def compile_now(function: Function) -> Function:
        try:
            return numba.njit(list(signatures), cache=True)(function)  # type: ignore[no-any-return]
        except Exception:
            # No folder to keep it in, or one that is full, read-only or spoilt.
            return numba.njit(list(signatures))(function)  # type: ignore[no-any-return]

    return compile_now


def _array(dtype: Any, dimensions: int = 1, *, readonly: bool = False) -> Any:
    return types.Array(dtype, dimensions, "C", readonly=readonly)


# -- rows by symbol ----------------------------------------------------------------------

_TIMES = _array(types.int64)
_GROUPS = [
    types.Tuple((_array(codes), _array(types.intp), _TIMES, _TIMES, types.boolean))(
        _array(codes, readonly=True), _array(types.int64, readonly=True)
    )
    for codes in (types.int8, types.int16, types.int32)
]


@_compiled(*_GROUPS)
def group_rows(
    codes: AnyArray, times: NDArray[np.int64]
) -> tuple[AnyArray, NDArray[np.intp], NDArray[np.int64], NDArray[np.int64], bool]:
    """Rows by symbol, as `data.columns.group` has them.

    Takes contiguous arrays of one length, codes of 8, 16 or 32 bits. Gives the symbols that
    occur in ascending order, the last row, the oldest and the newest time of each, and
    whether the times of each symbol rise from row to row. Room and time also go with the
    distance from the lowest code to the highest, which are meant to be dense.
    """
    rows = len(codes)
    lowest, highest = np.int64(0), np.int64(-1)
    if rows:
        lowest = highest = np.int64(codes[0])
    for row in range(rows):
        lowest = min(lowest, np.int64(codes[row]))
        highest = max(highest, np.int64(codes[row]))
    # Whole words, so that eight codes that do not occur cost one look.
    words = (highest - lowest + 8) >> 3
    occurs = np.zeros(words << 3, np.uint8)
    for row in range(rows):
        occurs[np.int64(codes[row]) - lowest] = 1
    place = np.empty(words << 3, np.int32)
    count = 0
    by_word = occurs.view(np.uint64)
    for word in range(words):
        if by_word[word]:
            for code in range(word << 3, (word << 3) + 8):
                place[code] = count
                count += occurs[code]
    symbols = np.empty(count, codes.dtype)
    last = np.full(count, -1, np.intp)
    oldest = np.empty(count, np.int64)
    newest = np.empty(count, np.int64)
    ascending = True
    for row in range(rows):
        group, time = place[np.int64(codes[row]) - lowest], times[row]
        before = last[group]
        last[group] = row
        if before < 0:
            symbols[group] = codes[row]
            oldest[group] = newest[group] = time
            continue
        if time <= times[before]:
            ascending = False
        oldest[group] = min(oldest[group], time)
        newest[group] = max(newest[group], time)
    return symbols, last, oldest, newest, ascending
