"""The lines of a stream's log that a page has not been told."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from alpaca_nb.data.status import LogLine

MOST: Final = 50
"""Lines told at once: the newest. How many were left out, the numbers say."""

LONGEST: Final = 500
"""Characters of one line."""

_REMEMBERED: Final = 1_000
"""Lines that are known again when they are seen again."""


class LogTail:
    """How far one view has told the log of its stream.

    A status holds the newest lines and no numbers; `see` finds out which of them are new and
    numbers them. Looking at a log in which nothing is new costs nothing.
    """

    def __init__(self) -> None:
        self._newest: LogLine | None = None
        self._logged = 0
        # By identity, not by what they say: a handler may print the same text twice within
        # one tick of a coarse clock. Holding the lines keeps their identities theirs.
        self._known: dict[int, LogLine] = {}
        self._lines: deque[LogLine] = deque(maxlen=MOST)
        self._end = 0
        self._told = 0

    def see(self, lines: tuple[LogLine, ...], *, logged: int = 0) -> None:
        """Take in the log as it is now; `logged` is how many lines there have been, if known.

        New lines need not be the last ones: where two logs are told as one, by time, a line
        may come to stand before one that was there already.
        """
        if not lines or (lines[-1] is self._newest and logged == self._logged):
            return
        new = [line for line in lines if id(line) not in self._known]
        unseen = logged - self._logged - len(new) if logged else 0
        if unseen > 0:
            # They came between what there was and what is new, which is all that is told now.
            self._lines.clear()
            self._end += unseen
        self._newest, self._logged = lines[-1], logged
        self._end += len(new)
        self._lines.extend(new)
        self._remember(new)

    def start_over(self) -> None:
        """A page knows nothing yet: the next news are everything there is."""
        self._told = 0

    def news(self) -> dict[str, Any] | None:
        """The lines nobody was told, at most the newest `MOST`, or None.

        They count as told from now on.
        """
        count = min(self._end - self._told, len(self._lines))
        if count == 0:
            return None
        self._told = self._end
        lines = list(self._lines)[-count:]
        return {"from": self._end - count, "lines": [_line(line) for line in lines]}

    def _remember(self, lines: list[LogLine]) -> None:
        self._known |= {id(line): line for line in lines}
        for known in list(self._known)[:-_REMEMBERED]:
            del self._known[known]


def _line(line: LogLine) -> dict[str, Any]:
    text = line.text if len(line.text) <= LONGEST else f"{line.text[: LONGEST - 1]}…"
    return {
        "time_ms": line.time_ns // 1_000_000,
        "source": line.source,
        "level": line.level,
        "text": text,
    }
