"""How far a long work is, and how long the rest will take: a bar in a terminal, a line now and then elsewhere."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

Item = TypeVar("Item")

_EVERY = 30.0  # seconds between two lines where there is no terminal


class TimeLeft:
    """How long the rest of a work will take, if it goes on as fast as it went since this was made.

    Args:
        total: How much there is to do, in any unit.
        done: How much of it others, or an earlier command, had done: it says nothing of this one's speed.
        clock: Gives seconds.
    """

    def __init__(self, total: int, done: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self.total = total
        self._first = done
        self._clock = clock
        self._began = clock()

    def seconds(self, done: int) -> float | None:
        """The seconds that are left; None while nothing tells."""
        if done <= self._first:
            return None
        return max(self.total - done, 0) * (self._clock() - self._began) / (done - self._first)

    def words(self, done: int) -> str:
        """The same, as a reader takes it in: no finer than it is known.

        Example:
            >>> time_left = TimeLeft(100, clock=iter([0.0, 10.0, 60.0]).__next__)
            >>> time_left.words(0), time_left.words(10), time_left.words(20)
            ('time left: unknown yet', 'about 90 s left', 'about 4 min left')
        """
        seconds = self.seconds(done)
        if seconds is None:
            return "time left: unknown yet"
        for size, unit in ((86400, "days"), (3600, "hours"), (60, "min")):
            if seconds >= 2 * size:
                return f"about {seconds / size:.0f} {unit} left"
        return f"about {seconds:.0f} s left" if seconds >= 1 else "nearly done"


class Progressing:
    """Shows how far a work is: with bars in a terminal, otherwise by a line now and then, without control codes.

    Args:
        what: The work.
        total: How much there is to do.
        done: How much of it was done before.
        console: Where to show it; the standard output by default.
    """

    def __init__(self, what: str, total: int, done: int = 0, console: Console | None = None) -> None:
        self.what = what
        self.left = TimeLeft(total, done)
        console = console or Console(highlight=False, markup=False, soft_wrap=True)
        self.console = console
        # FORCE_COLOR alone makes no terminal of a file.
        self.live = console.is_interactive and bool(getattr(console.file, "isatty", lambda: False)())
        self.bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"), TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"), console=console, transient=True, disable=not self.live,
        )  # fmt: skip
        self._task = self.bar.add_task(what, total=max(total, 1), completed=done, left=self.left.words(done))
        self._said = time.monotonic()

    def update(self, done: int) -> None:
        """Say how much is done by now."""
        self.bar.update(self._task, completed=done, left=self.left.words(done))
        if not self.live and time.monotonic() - self._said >= _EVERY:
            self._said = time.monotonic()
            share = done / self.left.total if self.left.total else 1.0
            print(f"{self.what}: {100 * share:.0f} %, {self.left.words(done)}", file=self.console.file, flush=True)


@contextmanager
def progressing(what: str, total: int, done: int = 0, console: Console | None = None) -> Iterator[Progressing]:
    """Show how far a work is while the block lasts; the arguments are those of ``Progressing``."""
    shown = Progressing(what, total, done, console)
    with shown.bar:
        yield shown


def tracked(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """Hand on items, and show how many of them are through; one alone is not worth it."""
    if total < 2:
        yield from items
        return
    with progressing(what, total) as shown:
        for number, item in enumerate(items):
            shown.update(number)
            yield item
