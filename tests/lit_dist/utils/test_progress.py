import io
import time

import pytest
from rich.console import Console

from lit_dist.utils.progress import Progressing, TimeLeft, progressing, tracked


@pytest.mark.parametrize(
    ("total", "before", "after", "done", "words"),
    [
        (10, 0, 5.0, 0, "time left: unknown yet"),
        (10, 4, 60.0, 4, "time left: unknown yet"),  # others have done that
        (10, 4, 60.0, 5, "about 5 min left"),
        (10, 0, 5.0, 10, "nearly done"),
        (1000, 0, 3600.0, 10, "about 4 days left"),
        (1000, 0, 3600.0, 100, "about 9 hours left"),
        (5, 0, 1.0, 9, "nearly done"),  # more than was thought
    ],
)
def test_the_time_left_is_told_by_the_speed_of_this_command(
    total: int, before: int, after: float, done: int, words: str
) -> None:
    clock = iter([100.0, 100.0 + after])
    assert TimeLeft(total, before, clock=clock.__next__).words(done) == words


@pytest.mark.parametrize("force", [None, True])
def test_without_a_terminal_there_are_plain_lines_now_and_then(
    force: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lit_dist.utils.progress._EVERY", 0.0)
    out = io.StringIO()
    with progressing("work", 4, 0, Console(file=out, force_terminal=force)) as shown:
        for done in range(4):
            shown.update(done)
    lines = out.getvalue().splitlines()
    assert lines[0] == "work: 0 %, time left: unknown yet"
    assert lines[3] == "work: 75 %, nearly done"
    assert "\x1b" not in out.getvalue()
    monkeypatch.setattr("lit_dist.utils.progress._EVERY", 1000.0)
    Progressing("work", 4, 0, Console(file=out)).update(1)
    assert len(out.getvalue().splitlines()) == 4


def test_in_a_terminal_there_is_a_bar_from_the_first_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    with progressing("work", 4, 0, Console(file=out, width=100)) as shown:
        shown.bar.refresh()
        first = out.getvalue()
        time.sleep(0.01)
        shown.update(2)
        shown.bar.refresh()
    assert "time left: unknown yet" in first
    assert "nearly done" in out.getvalue()
    assert "\x1b[3" not in out.getvalue().replace("\x1b[38", ""), "a colour"


def test_all_items_come_through() -> None:
    assert [*tracked(iter("abc"), "letters", 3), *tracked("d", "letters", 1)] == [*"abcd"]
