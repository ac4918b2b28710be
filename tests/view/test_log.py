"""How far a page was told the log."""

from __future__ import annotations

from typing import Any

from alpaca_nb.data.status import LogLine
from alpaca_nb.view.log import LONGEST, MOST, LogTail


def lines(count: int, text: str = "tick") -> tuple[LogLine, ...]:
    """Lines that say the same at the same time, as a coarse clock makes them."""
    return tuple(LogLine(1_000_000, "handler", text) for _ in range(count))


def numbers(news: dict[str, Any] | None) -> tuple[int, int]:
    """The number of the first line told, and how many were."""
    assert news is not None
    return news["from"], len(news["lines"])


def test_only_news_are_told() -> None:
    """A line is told once, with its number; nothing new is no news."""
    tail, log = LogTail(), lines(3)
    assert tail.news() is None
    tail.see(log)
    assert numbers(tail.news()) == (0, 3)
    tail.see(tuple(log))
    assert tail.news() is None
    tail.see(log + lines(2))
    assert numbers(tail.news()) == (3, 2)


def test_news_of_several_looks_are_told_together() -> None:
    """The log is looked at more often than something is sent."""
    tail, log = LogTail(), lines(2)
    tail.see(log)
    tail.see(log + lines(1))
    assert numbers(tail.news()) == (0, 3)


def test_a_log_forgets_its_oldest_lines() -> None:
    """Lines that leave a bounded log do not make those that stay new."""
    tail, log = LogTail(), lines(10)
    tail.see(log)
    tail.news()
    tail.see(log[4:] + lines(1))
    assert numbers(tail.news()) == (10, 1)


def test_another_log_is_new() -> None:
    """After a connection of another stream the log begins again, and the numbers go on."""
    tail = LogTail()
    tail.see(lines(10))
    tail.news()
    tail.see(lines(2))
    assert numbers(tail.news()) == (10, 2)


def test_a_flood_is_told_by_its_end() -> None:
    """The newest lines go, and the numbers say how many did not."""
    tail, log = LogTail(), lines(2)
    tail.see(log)
    tail.news()
    tail.see(log + lines(3 * MOST))
    assert numbers(tail.news()) == (2 + 2 * MOST, MOST)


def test_what_no_status_held_is_counted() -> None:
    """Where the stream counts its lines, the numbers tell how many were never seen here."""
    tail, log = LogTail(), lines(5)
    tail.see(log, logged=12)
    assert numbers(tail.news()) == (7, 5)
    tail.see(log[3:] + lines(3), logged=1_000)
    assert numbers(tail.news()) == (997, 3)
    # Another stream, which counts from one again.
    tail.see(lines(2), logged=2)
    assert numbers(tail.news()) == (1000, 2)


def test_two_logs_told_as_one() -> None:
    """A line that comes to stand before one that was there is new; what comes back is not."""
    tail, one, other = LogTail(), lines(3), lines(2, text="late")
    tail.see(one[:2], logged=2)
    tail.news()
    tail.see((one[0], other[0], one[1]), logged=3)
    assert numbers(tail.news()) == (2, 1)
    tail.see((other[0], one[1], one[2], other[1]), logged=5)
    assert numbers(tail.news()) == (3, 2)
    tail.see(one, logged=3)
    assert tail.news() is None


def test_a_page_that_is_loaded_again_is_told_again() -> None:
    """The numbers are the same as before, so that other pages know the lines."""
    tail, log = LogTail(), lines(8)
    tail.see(log[:5])
    tail.news()
    tail.see(log)
    tail.start_over()
    assert numbers(tail.news()) == (0, 8)
    tail.start_over()
    assert numbers(tail.news()) == (0, 8)


def test_a_line_is_cut() -> None:
    """One endless line does not make an endless message."""
    tail = LogTail()
    tail.see(lines(1, text="x" * 10_000))
    news = tail.news()
    assert news is not None
    (line,) = news["lines"]
    assert len(line["text"]) == LONGEST
    assert line["text"].endswith("…")
    assert line | {"text": ""} == {"time_ms": 1, "source": "handler", "level": "output", "text": ""}
