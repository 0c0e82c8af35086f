"""Work on several cores that is over when the call returns."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from lit_dist.utils.held_signals import held_signals

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_WORTH_A_THREAD = 2**20


def in_threads(function: Callable[[_Item], _Result], items: Iterable[_Item], size: int | None = None) -> list[_Result]:
    """Call a function that leaves Python's lock to others, as hashing and reading do, on each item.

    Where all items together have less than a megabyte (``size``, in bytes), no thread is worth its start.

    The threads have ended before this returns: a loader that forks its workers must not meet one at work. Each takes
    the next item when it has done one, since to hand out every single one would cost more than many an item. Signals
    are obeyed after it: a handler that came here again would wait for this thread's locks.
    """
    waiting = list(items)
    if size is not None and size < _WORTH_A_THREAD:
        return [function(item) for item in waiting]
    results: dict[int, _Result] = {}
    numbers = iter(range(len(waiting)))  # of which each thread takes the next one, never two the same

    def work() -> None:
        for number in numbers:
            results[number] = function(waiting[number])

    others = max(1, min(4, os.cpu_count() or 1) - 1)
    with held_signals(), ThreadPoolExecutor(others) as pool:
        parts = [pool.submit(work) for _ in range(others)]
        work()  # this thread too, so that one fewer has to be started
        for part in parts:
            part.result()
    return [results[number] for number in range(len(waiting))]
