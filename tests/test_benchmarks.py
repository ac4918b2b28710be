"""What the benchmarks send, and the page that is written from what they find."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from alpaca_nb.wire.codec import MSGPACK
from benchmarks import __main__ as command
from benchmarks import report, results
from benchmarks.quotes import Tape
from benchmarks.results import Figure, Result, Row, Table

TAPE = Tape(1_790_000_000_000_000_001)


def make_table() -> Table:
    table = Table("Cost of a message", "ns", base="ours", about="In turns.")
    table.add("peer", [300.0, 900.0, 400.0])
    table.add("floor", [50.0, 150.0, 100.0], "floor")
    table.add("ours", [100.0, 300.0, 100.0], "ours")
    table.ratio("peer over ours", "peer", "ours", at_least=3.5)
    table.ratio("ours over the floor", "ours", "floor", at_most=1.25)
    table.figure("messages", [1.0], "a frame")
    return table


def make_result(*, small: bool = False) -> Result:
    where = results.environment("python -m benchmarks") | {"date": "2026-09-21 14:13 UTC"}
    return Result("stream", "From the socket to the frame", [make_table()], where, 12.0, small)


@pytest.mark.parametrize("per_frame", [1, 10, 100])
@pytest.mark.parametrize("symbols", [10, 11_000])
def test_frames_are_what_the_wire_has(per_frame: int, symbols: int) -> None:
    """Frames made by numpy are those of the codec, behind the head of a WebSocket frame."""
    tape = Tape(TAPE.start_ns, symbols)
    frames = tape.frames(600, 800, per_frame)
    for number, frame in enumerate(frames):
        start = 600 + number * per_frame
        data = MSGPACK.encode([tape.quote(i) for i in range(start, start + per_frame)])
        head = 2 if len(data) < 126 else 4
        assert frame[head:].tobytes() == data
        assert frame[0] == 0x82
        assert len(data) == int.from_bytes(frame[head - (1 if head == 2 else 2) : head].tobytes())


def test_both_sides_know_the_quotes() -> None:
    """Times and bids can be told from the number of a quote."""
    quotes = [TAPE.quote(i) for i in range(5, 9)]
    assert TAPE.times(5, 9).tolist() == [quote.timestamp for quote in quotes]
    assert TAPE.bids(5, 9).tolist() == [quote.bid_price for quote in quotes]


def test_a_ratio_is_taken_within_each_round() -> None:
    """What slows down both of a pair for a round changes no ratio."""
    assert make_table().ratios("peer", "ours") == [3.0, 3.0, 4.0]


def test_a_target_is_kept_by_the_median() -> None:
    """A target is reached or missed by the median; without a target there is no verdict."""
    assert Figure("a", [1.0, 2.0, 9.0], at_least=2.0).reached is True
    assert Figure("a", [1.0, 2.0, 9.0], at_most=1.9).reached is False
    assert Figure("a", [1.0]).reached is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.01234, "0.0123"),
        (1.0, "1"),
        (1.25, "1.25"),
        (12.34, "12.3"),
        (1234.5, "1,234"),
    ],
)
def test_numbers_have_three_digits_that_count(value: float, text: str) -> None:
    """A figure has as many digits as a reader can use."""
    assert results.number(value) == text


def test_results_survive_their_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read back is what was kept."""
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    kept = results.load(results.save(make_result()))
    assert kept == make_result()
    assert kept.tables[0].row("ours") == Row("ours", [100.0, 300.0, 100.0], "ours")


def test_small_results_are_kept_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small run does not replace the result of a full one."""
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    full, small = results.save(make_result()), results.save(make_result(small=True))
    assert full != small
    assert [each.small for each in report.kept(["stream", "start"], tmp_path)] == [False]


def test_the_page_says_where_it_comes_from(tmp_path: Path) -> None:
    """The head names the machine, Python, the packages, the day and the command."""
    page, result = tmp_path / "performance.md", make_result()
    report.write([result], page)
    text = page.read_text("utf-8")
    where = result.environment
    assert f"- Machine: {where['processor']}, {where['cores']} cores" in text
    assert where["python"] in text
    assert f"numpy {where['packages']['numpy']}" in text
    assert "- Measured 2026-09-21 by `python -m benchmarks`" in text


def test_the_page_shows_targets_first_and_then_each_row(tmp_path: Path) -> None:
    """Figures with a target say whether it was reached; ours is bold, a floor italic."""
    page = tmp_path / "performance.md"
    report.write([make_result()], page)
    lines = page.read_text("utf-8").splitlines()
    assert "| peer over ours | 3x | 3-4 | ≥ 3.5x | missed |" in lines
    assert "| ours over the floor | 2x | 1-2 | ≤ 1.25x | missed |" in lines
    assert "| peer | 400 | 300-900 | 4x |" in lines
    assert "| *floor* | 100 | 50-150 | 1x |" in lines
    assert "| **ours** | 100 | 100-300 | 1x |" in lines
    assert "- messages: 1 a frame" in lines
    assert lines.index("## Targets") < lines.index("## From the socket to the frame")


def test_parts_of_different_days_are_told(tmp_path: Path) -> None:
    """A part that was measured another day or with other versions says so."""
    page, other = tmp_path / "performance.md", make_result()
    other.part = "start"
    other.environment = other.environment | {"date": "2026-09-22 08:00 UTC", "packages": {}}
    report.write([make_result(), other], page)
    text = page.read_text("utf-8")
    assert "- Measured (stream) 2026-09-21" in text
    assert "- Measured (start) 2026-09-22" in text
    assert "versions of its own" in text


def test_small_results_are_not_published(tmp_path: Path) -> None:
    """Neither small runs nor nothing make a page."""
    page = tmp_path / "performance.md"
    for wrong in ([make_result(small=True)], []):
        with pytest.raises(ValueError, match=r"Small runs|There is no result"):
            report.write(wrong, page)
    assert not page.exists()


@pytest.mark.parametrize("part", command.PARTS)
def test_each_part_says_what_it_is(part: str) -> None:
    """A part can be imported without its peers, and says what it is about."""
    module = importlib.import_module(f"benchmarks.{part}")
    assert isinstance(module.ABOUT, str)
    assert callable(module.measure)


def test_one_part_that_fails_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are measured and kept, and the exit code says that one failed."""
    monkeypatch.setattr(results, "FOLDER", tmp_path)

    def run(part: str, *, small: bool, command: str) -> Result:
        if part == "start":
            raise RuntimeError("broken")
        return make_result(small=small)

    monkeypatch.setattr(command, "run", run)
    assert command.main(["start", "stream", "--small"]) == 1
    assert (tmp_path / "small" / "stream.json").exists()
    assert "FAILED: start" in capsys.readouterr().err
