"""Whether a symbol's silence is normal, judged by its own rhythm.

The rhythm is one number, the mean wait: how long it takes until the next message, seen
from a random moment. Long silences weigh in it as much as they last, so that a burst of a
thousand messages does not make a symbol look busy. Were the messages independent, silences
would be distributed exponentially, and the patience after which chance explains one only
every other hour follows. Markets are burstier than that. So the longest silence of the last
minutes counts as well, and a silence that was called stale and turned out to be normal
doubles the patience, which wears off over some hours. On a real day this leaves a false
alarm every three hours and symbol.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import Protocol

from alpaca_nb.data.status import Freshness, Phase

FLOOR_S = 5.0
"""No silence is stale before this, however busy the symbol."""
LONGEST_S = 600.0
"""A symbol that may well be silent for longer than this is never called stale."""

_TICK_CHANNELS = ("quotes", "trades")
_MINUTE_CHANNELS = ("bars",)
_ALARM_EVERY_S = 7200.0
"""How often chance alone may cause an alarm."""
_ENOUGH_MESSAGES = 10
_EPOCH_S = 120.0
_EPOCH_MESSAGES = 20
_EPOCH_WAITS = 5
_EPOCHS = 4
_FIRST_EPOCH = (10.0, 300.0, 0.0)
"""Stands for what is not known yet: a wait of 15 s, soon outweighed."""
_MARGIN = 1.25
_SURPRISE = 4.0
_MOST_CAUTIOUS = 4.0
_CAUTION_S = 7200.0
_MOST_DOUBLINGS = 10
_QUIET_S = 300.0
_SWEEPS_S = 2.0
"""Two sweeps, in seconds of this machine: a fast tape is not judged in less."""
_RATE_S = 60.0
_RATE_MESSAGES = 20
_MINUTES_IN_A_ROW = 3
_MISSED_S = 200.0
"""Three minutes without a bar that should have come, and what bars may be late."""
_EVIDENCE = 6.0


class Pulse:
    """The beat of one symbol on one channel.

    `count`, `last_ns` and `received_ns` are written when somebody wants to know, from what the
    thread that receives has noted of all symbols. About once a second a sweep calls `beat`,
    which learns how long the symbol is usually silent, and asks for the `verdict`. Their
    times are monotonic seconds, and all methods are called on one thread. With a tape that is
    played at `speed`, what is normal shrinks accordingly.
    """

    __slots__ = (
        "_active",
        "_beat",
        "_counted",
        "_doublings",
        "_excused",
        "_floor_s",
        "_phase",
        "_rate_count",
        "_rate_s",
        "_rhythm",
        "_since",
        "_speed",
        "_told_speed",
        "channel",
        "count",
        "last_ns",
        "received_ns",
        "symbol",
    )

    def __init__(
        self, channel: str, symbol: str, *, floor_s: float = FLOOR_S, speed: float | None = None
    ) -> None:
        self.channel = channel
        self.symbol = symbol
        self.count = 0
        """Messages so far."""
        self.last_ns: int | None = None
        """The time stamp of the last message (ns since 1970, UTC)."""
        self.received_ns: int | None = None
        """When it came."""
        self._floor_s = floor_s
        self._counted = 0
        self._told_speed = speed
        self._speed = 1.0
        self._phase: Phase | None = None
        # From here on in seconds of the source; minus infinity where there was none yet.
        self._beat = self._active = self._since = self._excused = -math.inf
        self._doublings = 0
        self._rate_count = self._rate_s = 0.0
        self._rhythm: _Rhythm = _NO_RHYTHM
        self._begin(speed)

    def __repr__(self) -> str:
        return f"Pulse({self.channel} of {self.symbol}, {self.count} messages)"

    def set_speed(self, speed: float | None) -> None:
        """Say how fast the source's time goes (None: live, 0: it has none).

        A change forgets the rhythm.
        """
        if speed != self._told_speed:
            self._begin(speed)

    def beat(self, now_s: float) -> None:
        """Learn from what came since the last beat."""
        if self.count != self._counted:
            self._learn(now_s)
        self._beat = now_s

    def restart(self, now_s: float) -> None:
        """Count the silence from now on, as after a lost connection; it is not learned."""
        self._since = self._excused = now_s * self._speed
        self._doublings = 0

    def note_verified(self, now_s: float) -> None:
        """Say that it is known in another way that the last message is the newest there is.

        The silence counts from now, and may last twice as long as it might before; from
        the next message on all is as it was.
        """
        self._excused = now_s * self._speed
        self._doublings = min(self._doublings + 1, _MOST_DOUBLINGS)

    def verdict(self, now_s: float, phase: Phase) -> Freshness:
        """How much the last message can be trusted to be the newest there is."""
        now = now_s * self._speed
        if phase not in (self._phase, "unknown"):
            if self._phase is not None:
                # Neither rhythm nor silence of before say anything of now.
                self._since = self._excused = now
                self._rhythm = self._new_rhythm()
            self._phase = phase
        if phase == "closed":
            return "closed"
        if self.count == 0:
            return "waiting"
        patience = self._patience
        if phase == "open" and now - max(self._active, self._excused) > patience:
            return "stale"
        return "quiet" if now - self._active > min(patience / 2, _QUIET_S) else "live"

    @property
    def threshold_s(self) -> float:
        """Seconds of silence after which it is stale; infinite where nobody can tell."""
        return self._patience / self._speed

    @property
    def rate(self) -> float:
        """Messages a second it has had lately, when it had any."""
        return self._rate_count / self._rate_s * self._speed if self._rate_s else 0.0

    # -- inside, where seconds are the source's --

    def _begin(self, speed: float | None) -> None:
        self._told_speed = speed
        self._speed = speed or 1.0
        self._phase = None
        self._beat = self._active = self._since = self._excused = -math.inf
        self._doublings = 0
        self._rate_count = self._rate_s = 0.0
        self._rhythm = self._new_rhythm()

    def _new_rhythm(self) -> _Rhythm:
        if self._told_speed == 0:
            return _NO_RHYTHM
        if self.channel in _TICK_CHANNELS:
            return _Ticks(max(self._floor_s, _SWEEPS_S * self._speed))
        return _Minutes() if self.channel in _MINUTE_CHANNELS else _NO_RHYTHM

    def _learn(self, now_s: float) -> None:
        messages, self._counted = self.count - self._counted, self.count
        now = now_s * self._speed
        before = now if self._beat == -math.inf else self._beat * self._speed
        # Only their number is known, so they are taken to be spread evenly.
        step = (now - before) / (messages + 1)
        start, self._active = max(self._active, self._since), now - step
        self._doublings = 0
        if start == -math.inf:
            return
        silence = max(0.0, before + step - start)
        self._rate_count += messages
        self._rate_s += silence + (messages - 1) * step
        if self._rate_s > _RATE_S and self._rate_count > _RATE_MESSAGES:
            self._rate_count /= 2
            self._rate_s /= 2
        self._rhythm.learn(now, messages, silence, step)

    @property
    def _patience(self) -> float:
        patience = self._rhythm.patience
        # Once it has been doubled it ends at a check every ten minutes, for ever.
        if self._doublings and patience < math.inf:
            return max(patience, min(patience * 2.0**self._doublings, LONGEST_S))
        return patience


def joint_silence(pulses: Iterable[Pulse], now_s: float) -> bool:
    """Whether so many are silent at once that the connection is to blame.

    Silences that are each still normal are together too much of a coincidence; this is
    known seconds before any verdict is "stale". Only quotes and trades count, and each
    symbol once, because its quotes and trades fall silent together.
    """
    shortest = math.inf
    onsets: dict[str, float] = {}
    for pulse in pulses:
        ticks = pulse._rhythm
        if not isinstance(ticks, _Ticks) or pulse.count == 0:
            continue
        silence = now_s * pulse._speed - max(pulse._active, pulse._excused)
        if silence <= ticks.floor:
            return False
        shortest = min(shortest, silence)
        onset = 0.5**pulse._doublings / ticks.wait
        onsets[pulse.symbol] = max(onsets.get(pulse.symbol, 0.0), onset)
    if len(onsets) < 2 or not (total := sum(onsets.values())):
        return False
    # The logarithm of how rarely all are silent for as long as the shortest of these
    # silences; no symbol alone can bring it about.
    evidence = sum(min(shortest * onset, _EVIDENCE) for onset in onsets.values())
    return evidence > max(1.0, math.log(_ALARM_EVERY_S * total))


class _Rhythm(Protocol):
    """What is known of a symbol's silences."""

    patience: float
    """The silence that is too long; infinite while nobody can tell."""

    def learn(self, now: float, messages: int, silence: float, step: float) -> None:
        """Take into account some messages that came up to now.

        `silence` is the time before the first, `step` that between the others.
        """
        ...


class _NoRhythm:
    """Comes when it comes: halts, price bands, corrections."""

    patience = math.inf

    def learn(self, now: float, messages: int, silence: float, step: float) -> None:
        """Nothing can be learned."""


_NO_RHYTHM = _NoRhythm()


class _Minutes:
    """A message a minute, for a symbol that trades in every minute."""

    __slots__ = ("_in_a_row", "_minute", "patience")

    def __init__(self) -> None:
        self.patience = math.inf
        self._minute = -math.inf
        self._in_a_row = 0

    def learn(self, now: float, messages: int, silence: float, step: float) -> None:
        """Count the minutes in a row."""
        elapsed = now - self._minute
        if elapsed < 30:
            return  # several of the same minute, as when all symbols are subscribed
        self._minute = now
        self._in_a_row = self._in_a_row + 1 if elapsed < 90 else 0
        self.patience = _MISSED_S if self._in_a_row >= _MINUTES_IN_A_ROW else math.inf


class _Ticks:
    """Messages at random times, denser now and then.

    Time goes in epochs that are long enough to see the silences of the symbol, and only
    the last few count: so it adapts in less than ten minutes when a symbol becomes busy, and
    at once when it becomes calm.
    """

    __slots__ = (
        "_caution",
        "_epochs",
        "_longest",
        "_messages",
        "_past",
        "_seen",
        "_squares",
        "_time",
        "floor",
        "patience",
        "wait",
    )

    def __init__(self, floor: float) -> None:
        self.floor = floor
        self.patience = math.inf
        self.wait = math.inf
        """The mean wait, with all caution; infinite while unknown."""
        self._seen = 0
        self._caution = 1.0
        self._epochs = deque([_FIRST_EPOCH], maxlen=_EPOCHS)
        self._past = _FIRST_EPOCH
        self._time = self._squares = self._longest = 0.0
        self._messages = 0

    def learn(self, now: float, messages: int, silence: float, step: float) -> None:
        """Add the silences of one beat to the epoch."""
        if silence > self.patience:
            # A false alarm. One long halt must not make a busy symbol look like a sparse one.
            silence = min(silence, _SURPRISE * self.patience)
            self._caution = min(2 * self._caution, _MOST_CAUTIOUS)
        silence = min(silence, LONGEST_S)
        others = (messages - 1) * step
        self._seen += messages
        self._messages += messages
        self._time += silence + others
        self._squares += silence * silence + others * step
        self._longest = max(self._longest, silence)
        if (
            self._time >= _EPOCH_S
            and self._messages >= _EPOCH_MESSAGES
            and self._time >= _EPOCH_WAITS * self._squares / (2 * self._time)
        ):
            self._end_epoch()
        self._judge()

    def _end_epoch(self) -> None:
        self._epochs.append((self._time, self._squares, self._longest))
        self._caution = 1.0 + (self._caution - 1.0) * math.exp(-self._time / _CAUTION_S)
        times, squares, longest = zip(*self._epochs, strict=True)
        self._past = (sum(times), sum(squares), max(longest))
        self._time = self._squares = self._longest = 0.0
        self._messages = 0

    def _judge(self) -> None:
        time, squares, longest = self._past
        # The mean of the squares over twice the mean: each silence weighs by its length.
        wait = (squares + self._squares) / (2 * (time + self._time))
        usual = wait * max(1.0, math.log(_ALARM_EVERY_S / wait)) * self._caution
        if self._seen < _ENOUGH_MESSAGES:
            return
        longest = max(longest, self._longest) * _MARGIN * self._caution
        patience = max(usual, min(longest, LONGEST_S))
        self.patience = max(patience, self.floor) if usual <= LONGEST_S else math.inf
        self.wait = wait * self._caution * patience / usual
