"""What numba compiles; nothing else imports numba, and only `data.compiled` this module.

Importing it compiles, or loads what an earlier process compiled and kept. The functions hold
the interpreter lock: beside a busy main thread, to get it back costs up to 5 ms a time. So
each call is to take less than a millisecond, which its callers see to.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import numba
import numba.extending
import numpy as np
from llvmlite import ir
from numba import types
from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., Any])
AnyArray = NDArray[Any]

if cast(Any, numba).config.DISABLE_JIT:
    raise ImportError("numba is told not to compile (NUMBA_DISABLE_JIT)")

# As Any, because whether it has types goes with its version.
_njit: Final[Any] = numba.njit
_intrinsic: Final[Any] = numba.extending.intrinsic


def _compiled(*signatures: Any) -> Callable[[Function], Function]:
    """Compile for these types now, and keep the result for the next process if possible."""

    def compile_now(function: Function) -> Function:
        try:
            compiled = _njit(list(signatures), cache=True, no_cfunc_wrapper=True)(function)
        except Exception:
            # No folder to keep it in, or one that is full, read-only or spoilt.
            compiled = _njit(list(signatures), no_cfunc_wrapper=True)(function)
        return cast(Function, compiled)

    return compile_now


def _helper(function: Function) -> Function:
    """Compile a function that only other compiled ones call."""
    compiled = _njit(no_cfunc_wrapper=True, no_cpython_wrapper=True)(function)
    return cast(Function, compiled)


def _inlined(function: Function) -> Function:
    """The same for one whose call would take longer than itself."""
    compiled = _njit(forceinline=True, no_cfunc_wrapper=True, no_cpython_wrapper=True)(function)
    return cast(Function, compiled)


def _array(dtype: Any, dimensions: int = 1, *, readonly: bool = False) -> Any:
    return types.Array(dtype, dimensions, "C", readonly=readonly)


# -- rows by symbol ----------------------------------------------------------------------

_LINE: Final = _array(types.int64)
_Tuple: Final[Any] = types.Tuple
_GROUPS: Final = [
    _Tuple((_array(codes), _array(types.intp), _LINE, _LINE, types.boolean))(
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


# -- reading memory ----------------------------------------------------------------------
#
# What follows works with addresses: for an array that is passed on, numba counts references,
# and that takes longer than to read a field. So nothing checks a bound unless it is written
# here. Headers are read before it is known whether they belong to the frame, which is found
# out afterwards; PADDING is what makes this safe.

PADDING: Final = 32
"""How many bytes must follow the last frame."""


def _reader(bits: int, *, swapped: bool = False) -> Callable[[int], int]:
    """What reads so many bits at an address, aligned or not, as a signed number."""

    def read(_context: Any, at: Any) -> Any:
        def generate(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            pointer = builder.inttoptr(arguments[0], ir.IntType(bits).as_pointer())
            value = builder.load(pointer, align=1)
            if swapped:
                value = builder.bswap(value)
            return value if bits == 64 else builder.sext(value, ir.IntType(64))

        return types.int64(types.int64), generate

    return cast(Callable[[int], int], _intrinsic(read))


def _address_of(_context: Any, array: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        start = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.ptrtoint(start, ir.IntType(64))

    return types.int64(array), generate


_word: Final = _reader(64, swapped=sys.byteorder == "little")
"""Eight bytes, the first of them the highest."""
_int64: Final = _reader(64)
_int32: Final = _reader(32)
_address: Final = cast(Callable[[AnyArray], int], _intrinsic(_address_of))
"""Where the values of an array begin."""


# -- reading MessagePack -----------------------------------------------------------------

LONGEST_TEXT: Final = 64
"""The most bytes that a text, or a list of them, may have as packed; else nobody decodes it."""


@_inlined
def _byte(at: int) -> int:
    return _word(at) >> 56 & 0xFF


@_inlined
def _integer(at: int) -> tuple[int, int, bool]:
    """Where an integer ends, or 0 if there is none; its 64 bits; whether the highest counts."""
    lead, value = _byte(at), _word(at + 1)
    if lead < 0x80:
        return at + 1, lead, False
    if lead >= 0xE0:
        return at + 1, lead - 256, False
    if lead == 0xCC:
        return at + 2, value >> 56 & 0xFF, False
    if lead == 0xCD:
        return at + 3, value >> 48 & 0xFFFF, False
    if lead == 0xCE:
        return at + 5, value >> 32 & 0xFFFFFFFF, False
    if lead == 0xCF:
        return at + 9, value, value < 0
    if lead == 0xD0:
        return at + 2, value >> 56, False
    if lead == 0xD1:
        return at + 3, value >> 48, False
    if lead == 0xD2:
        return at + 5, value >> 32, False
    if lead == 0xD3:
        return at + 9, value, False
    return 0, 0, False


@_helper
def _unusual_float(at: int) -> tuple[int, Any]:
    """Where a short float or an integer ends, or 0 if there is none; its bits as a float."""
    if _byte(at) == 0xCA:
        single = np.uint32(_word(at + 1) >> 32 & 0xFFFFFFFF).view(np.float32)
        return at + 5, np.float64(single).view(np.int64)
    stop, integer, unsigned = _integer(at)
    if unsigned:
        return stop, np.float64(np.uint64(integer)).view(np.int64)
    return stop, np.float64(integer).view(np.int64)


_FAR: Final = 9_223_372_030
"""So many seconds from 1970, any nanoseconds still fit, even those that are no fraction."""


@_inlined
def _time(at: int) -> tuple[int, int]:
    """Where a time ends, or 0 if there is none that surely fits, and its nanoseconds."""
    lead = _word(at) >> 40 & 0xFFFFFF
    if lead >> 8 == 0xD7FF:
        start, length = at + 2, 8
    elif lead >> 8 == 0xD6FF:
        start, length = at + 2, 4
    elif lead in (0xC704FF, 0xC708FF, 0xC70CFF):
        start, length = at + 3, lead >> 8 & 0xFF
    else:
        return 0, 0
    value = _word(start)
    if length == 8:
        seconds, rest = value & 0x3_FFFF_FFFF, value >> 34 & 0x3FFF_FFFF
    elif length == 4:
        seconds, rest = value >> 32 & 0xFFFFFFFF, 0
    else:
        seconds, rest = _word(start + 4), value >> 32 & 0xFFFFFFFF
    if not -_FAR <= seconds <= _FAR:
        return 0, 0
    return start + length, seconds * 1_000_000_000 + rest


@_inlined
def _string(at: int) -> tuple[int, int]:
    """Where the bytes of a string of less than 256 start and end; 0 if there is none."""
    lead = _byte(at)
    if 0xA0 <= lead <= 0xBF:
        return at + 1, at + 1 + (lead & 0x1F)
    if lead == 0xD9:
        return at + 2, at + 2 + _byte(at + 1)
    return at, 0


@_inlined
def _text_stop(at: int, end: int, is_list: bool) -> int:
    """Where a text or a list of texts ends; 0 if there is none, or one too long or cut off."""
    stop, count = at, 1
    if is_list:
        lead = _byte(at)
        if lead & 0xF0 != 0x90:
            return 0
        stop, count = at + 1, lead & 0x0F
    end = min(end, at + LONGEST_TEXT)
    for _ in range(count):
        if stop == 0 or stop >= end:
            return 0
        _, stop = _string(stop)
    if stop > end:
        return 0
    return stop


@_helper
def _is_ascii(at: int, stop: int) -> bool:
    while at < stop:
        if _byte(at) >= 0x80:
            return False
        at += 1
    return True


@_helper
def _are_ascii(at: int, stop: int) -> bool:
    """Whether a text, or a list of texts, is in ASCII, and so certainly readable."""
    if _byte(at) & 0xF0 == 0x90:
        at += 1
    while at < stop:
        start, at = _string(at)
        if not _is_ascii(start, at):
            return False
    return True


@_helper
def _unknown_stop(at: int, end: int) -> int:
    """Where a key that means nothing ends, with its value; 0 if these are not simple."""
    start, stop = _string(at)
    if stop == 0 or stop >= end or not _is_ascii(start, stop):
        return 0
    lead = _byte(stop)
    if lead in (0xC0, 0xC2, 0xC3):
        return stop + 1
    if lead == 0xCB:
        return stop + 9
    if lead & 0xE0 != 0xA0 and lead != 0xD9:
        stop, _ = _unusual_float(stop)
        return stop
    start, stop = _string(stop)
    if stop > end or not _is_ascii(start, stop):
        return 0
    return stop


# -- texts as numbers --------------------------------------------------------------------

KEY, CODE, START, PLACE = range(4)
"""What `entries` say of a text: itself if it is short, else its hash; its number; where its
bytes begin in the arena, above 8 bits for their count; its place among the slots, or -1 less
its letter."""

ENTRIES, ARENA, FRAMES, ROWS = 0, 1, 2, 3
"""What `state` counts: texts, their bytes, frames decoded, and from there on the rows of
quotes and of trades."""

_MOST_PROBES: Final = 128
_SPREAD: Final = -7046029254386353131  # 2**64 divided by the golden ratio, as signed

_UNSEEN, _UNFIT, _NO_PLACE = -1, -(1 << 40), -(1 << 41)
"""What stands for the number of a text that is new, not for us, or one too many."""


@_inlined
def _key_of(at: int, length: int) -> int:
    """A packed text itself, as a negative number, if it has at most 8 bytes; else its hash.

    Its first byte has the highest bit and says how long it is, so no two texts are the same.
    """
    if length <= 8:
        unused = 64 - 8 * length
        return _word(at) >> unused << unused
    key = length
    for offset in range(0, length, 8):
        unused = 64 - 8 * min(8, length - offset)
        key = (key ^ _word(at + offset) >> unused) * _SPREAD
        key ^= key >> 32 & 0xFFFFFFFF
    return key & 0x7FFF_FFFF_FFFF_FFFF


@_inlined
def _slot_of(key: int, slots: int) -> int:
    """Where among so many slots, a power of two up to 2**19, a key belongs.

    By the highest bits of the product: those in the middle know nothing of a short text, which
    stands in the highest bits of its key.
    """
    return (key * _SPREAD >> 44) & (slots - 1)


@_helper
def _is_same(at: int, other: int, length: int) -> bool:
    while length and _byte(at) == _byte(other):
        at, other, length = at + 1, other + 1, length - 1
    return length == 0


@_inlined
def _find(
    at: int, length: int, slots: int, count: int, entries: int, arena: int
) -> tuple[int, int]:
    """The number of a packed text, or _UNSEEN and the slot where it belongs, or _UNFIT.

    The tables are given by their addresses, `count` is that of the slots.
    """
    key = _key_of(at, length)
    slot = _slot_of(key, count)
    for _ in range(_MOST_PROBES):
        number = _int32(slots + 4 * slot)
        if number < 0:
            return _UNSEEN, slot
        entry = entries + 32 * number
        if _int64(entry + 8 * KEY) == key:
            start = _int64(entry + 8 * START)
            if key < 0 or (start & 0xFF == length and _is_same(at, arena + (start >> 8), length)):
                return _int64(entry + 8 * CODE), slot
        slot = (slot + 1) & (count - 1)
    return _UNFIT, slot


@_helper
def _add(
    at: int,
    stop: int,
    place: int,
    slots: AnyArray,
    entries: AnyArray,
    arena: AnyArray,
    letters: AnyArray,
    state: AnyArray,
) -> int:
    """Take in a new text; its provisional number, which is less than -1, or _NO_PLACE."""
    entry, start, length = state[ENTRIES], state[ARENA], stop - at
    # What follows the last byte is read along with it.
    if entry >= len(entries) or start + length + 8 > len(arena):
        return _NO_PLACE
    code = -2 - entry
    entries[entry, KEY] = _key_of(at, length)
    entries[entry, CODE] = code
    entries[entry, START] = start << 8 | length
    entries[entry, PLACE] = place
    for offset in range(length):
        arena[start + offset] = _byte(at + offset)
    if place < 0:
        letters[-1 - place] = code
    else:
        slots[place] = entry
    state[ENTRIES], state[ARENA] = entry + 1, start + length
    return int(code)


@_helper
def _forget(
    known: int, slots: AnyArray, entries: AnyArray, letters: AnyArray, state: AnyArray
) -> None:
    """Drop the texts that came last; nothing was put behind them, so no search misses them."""
    while state[ENTRIES] > known:
        entry = state[ENTRIES] - 1
        state[ENTRIES], state[ARENA] = entry, entries[entry, START] >> 8
        place = entries[entry, PLACE]
        if place < 0:
            letters[-1 - place] = _UNSEEN
        else:
            slots[place] = -1


_TABLE: Final = _array(types.int64, 2)
_SLOTS: Final = _array(types.int32)


@_compiled(types.void(_SLOTS, _TABLE, types.int64))
def rehash(slots: AnyArray, entries: AnyArray, count: int) -> None:
    """Put the first `count` entries into slots of another number, a power of two."""
    slots[:] = -1
    for entry in range(count):
        if entries[entry, PLACE] >= 0:
            slot = _slot_of(entries[entry, KEY], len(slots))
            while slots[slot] >= 0:
                slot = (slot + 1) & (len(slots) - 1)
            slots[slot] = entry
            entries[entry, PLACE] = slot


# -- frames into columns -----------------------------------------------------------------

TIME, INT, IDENTIFIER, FLOAT, TEXT, LABELS = range(1, 7)
"""What a field holds: the lowest 3 bits of an entry in `fields`. 5 bits for its row and 4 for
its number among the fields of the message follow. 0 is a field that nobody knows."""

AGAIN: Final = -1
"""The field that says which type a message is of, where it must not stand: behind the first."""

ONE_BYTE_KEYS: Final = 1 << 16
"""Where in `fields` keys of one byte lie; keys of two bytes lie before them."""

FIELDS: Final = ONE_BYTE_KEYS + (1 << 8)
"""How many entries `fields` have for a type of message."""

TAG, COMPLETE, RECEIVED, STARTS, STOPS = range(5)
"""What `shapes` say of a message type: its first key and value, four bytes; the bits of all of
its fields; the rows for when it came and for where in the data it starts and stops."""

SMALLEST_MESSAGE: Final = 34
"""No message that is decoded is shorter: a trade with empty texts and small numbers."""

DONE, NO_ROOM, NO_PLACE, REFUSED = range(4)
"""Why a scan ends: all frames are done, or the next one needs more rows, or more room for new
texts, or is not of the usual shape."""


@_compiled(
    types.int64(
        *(_array(types.uint8, readonly=True), _LINE, _LINE),
        *(_TABLE, _array(types.int32, 2), _LINE),
        *(_array(types.int16, 2), _TABLE),
        *(_SLOTS, _TABLE, _array(types.uint8), _SLOTS, _LINE),
    )
)
def scan(
    data: AnyArray,
    stops: AnyArray,
    received: AnyArray,
    numbers: AnyArray,
    texts: AnyArray,
    newest: AnyArray,
    fields: AnyArray,
    shapes: AnyArray,
    slots: AnyArray,
    entries: AnyArray,
    arena: AnyArray,
    letters: AnyArray,
    state: AnyArray,
) -> int:
    """Decode frames of quotes and trades into columns, up to the first it cannot decode.

    `data` are frames one behind the other and PADDING bytes more; `stops` and `received` say
    where each ends and when it came. `numbers` (and prices, as their bits) and `texts` (codes,
    and places in the data) take one message a column, in the rows that `fields` and `shapes`
    name; `newest` the time stamp of the last message of each frame. `slots` is the table of
    the texts known, at most half full; `letters` has the numbers of those of one letter. A
    text that is new gets the number -2 less its entry.

    Returns why it ended; `state` says how far it came. Of a frame that is not decoded no trace
    is left but behind the rows that count.
    """
    base, room = _address(data), numbers.shape[1]
    slots_at, entries_at, arena_at = _address(slots), _address(entries), _address(arena)
    at = base
    quotes = trades = 0
    for frame in range(len(stops)):
        end, known = base + stops[frame], state[ENTRIES]
        lead, count = _byte(at), 0
        if lead & 0xF0 == 0x90:
            count, at = lead & 0x0F, at + 1
        elif lead == 0xDC:
            count, at = _word(at + 1) >> 48 & 0xFFFF, at + 3
        elif lead == 0xDD:
            count, at = _word(at + 1) >> 32 & 0xFFFFFFFF, at + 5
        if count == 0 or count * SMALLEST_MESSAGE > end - at:
            return REFUSED
        if quotes + trades + count > room:
            return NO_ROOM
        why, time = DONE, 0
        for _ in range(count):
            start = at
            lead, pairs = _byte(at), 0
            if lead & 0xF0 == 0x80:
                pairs, at = lead & 0x0F, at + 1
            elif lead == 0xDE:
                pairs, at = _word(at + 1) >> 48 & 0xFFFF, at + 3
            tag = _word(at) >> 32 & 0xFFFFFFFF
            at += 4
            kind, column = 0, quotes
            if tag != shapes[0, TAG]:
                kind, column = 1, trades
                if tag != shapes[1, TAG]:
                    why = REFUSED
                    break
            seen = 0
            for _ in range(pairs - 1):
                if at >= end:
                    why = REFUSED
                    break
                key, word, field = at, _word(at), 0
                if word >> 56 & 0xFF == 0xA1:
                    field, at = fields[kind, ONE_BYTE_KEYS + (word >> 48 & 0xFF)], at + 2
                elif word >> 56 & 0xFF == 0xA2:
                    field, at = fields[kind, word >> 40 & 0xFFFF], at + 3
                if field == 0:
                    at = _unknown_stop(key, end)
                    if at == 0:
                        why = REFUSED
                        break
                    continue
                what, row, bit = field & 7, field >> 3 & 31, 1 << (field >> 8 & 15)
                if field == AGAIN or seen & bit:
                    why = REFUSED
                    break
                seen |= bit
                if what >= TEXT:
                    # One of one letter, the usual one, is found by it; a list of it is the
                    # same text.
                    lead, stop = _word(at) >> 40 & 0xFFFFFF, at + 3
                    if what == TEXT:
                        lead, stop = lead >> 8 | 0x910000, at + 2
                    if lead & 0xFFFF00 == 0x91A100:
                        letter = lead & 0xFF
                        code, place = int(letters[letter]), -1 - letter
                        fits = letter < 0x80
                    else:
                        stop = _text_stop(at, end, what == LABELS)
                        if stop == 0:
                            why = REFUSED
                            break
                        code, place = _find(
                            at, stop - at, slots_at, len(slots), entries_at, arena_at
                        )
                        fits = code != _UNSEEN or _are_ascii(at, stop)
                    if code == _UNFIT or not fits:
                        why = REFUSED
                        break
                    if code == _UNSEEN:
                        code = _add(at, stop, place, slots, entries, arena, letters, state)
                        if code == _NO_PLACE:
                            why = NO_PLACE
                            break
                    at = stop
                    texts[row, column] = code
                    continue
                if what == FLOAT:
                    if _byte(at) == 0xCB:
                        number, at = _word(at + 1), at + 9
                    else:
                        at, number = _unusual_float(at)
                elif what == TIME:
                    at, number = _time(at)
                    time = number
                else:
                    at, number, unsigned = _integer(at)
                    if what == INT:
                        if unsigned:
                            at = 0
                    elif number < 0 and not unsigned:
                        at = 0
                if at == 0:
                    why = REFUSED
                    break
                numbers[row, column] = number
            if why != DONE:
                break
            if seen != shapes[kind, COMPLETE] or at > end:
                why = REFUSED
                break
            numbers[shapes[kind, RECEIVED], column] = received[frame]
            texts[shapes[kind, STARTS], column] = start - base
            texts[shapes[kind, STOPS], column] = at - base
            if kind:
                trades += 1
            else:
                quotes += 1
        if why == DONE and at != end:
            why = REFUSED
        if why != DONE:
            _forget(known, slots, entries, letters, state)
            return why
        newest[frame] = time
        state[FRAMES], state[ROWS], state[ROWS + 1] = frame + 1, quotes, trades
    return DONE
