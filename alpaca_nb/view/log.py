"""The lines of a stream's log that a page has not been told."""

from __future__ import annotations

from typing import Any, Final

from alpaca_nb.data.status import LogLine

MOST: Final = 50
"""Lines told at once: the newest. How many were left out, the numbers say."""

LONGEST: Final = 500
"""Characters of one line."""


class LogTail:
    """How far one view has told the log of its stream.

    A status holds the newest lines and no numbers; `see` finds out which of them are new and
    counts them. Looking at a log in which nothing is new costs nothing.
    """

    def __init__(self) -> None:
        self._lines: tuple[LogLine, ...] = ()
        self._end = 0
        self._told = 0

    def see(self, lines: tuple[LogLine, ...]) -> None:
        """Take in the log as it is now."""
        if not lines or (self._lines and lines[-1] is self._lines[-1]):
            return
        self._end += len(lines) - self._known(lines)
        self._lines = lines

    def start_over(self) -> None:
        """A page knows nothing yet: the next news are everything there is."""
        self._told = 0

    def news(self) -> dict[str, Any] | None:
        """The lines nobody was told, at most the newest `MOST`, or None.

        They count as told from now on.
        """
        if self._told == self._end:
            return None
        first = max(self._told, self._end - min(len(self._lines), MOST))
        self._told = self._end
        return {"from": first, "lines": [_line(line) for line in self._lines[first - self._end :]]}

    def _known(self, lines: tuple[LogLine, ...]) -> int:
        """How many of these were there before.

        Lines are told apart by what they are, not by what they say: a handler may print the
        same text twice within one tick of a coarse clock.
        """
        if self._lines:
            last = self._lines[-1]
            for at in range(len(lines) - 1, -1, -1):
                if lines[at] is last:
                    return at + 1
        return 0


def _line(line: LogLine) -> dict[str, Any]:
    text = line.text if len(line.text) <= LONGEST else f"{line.text[: LONGEST - 1]}…"
    return {
        "time_ms": line.time_ns // 1_000_000,
        "source": line.source,
        "level": line.level,
        "text": text,
    }
