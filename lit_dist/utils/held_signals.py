"""Signals that come at a bad moment are obeyed after it."""

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def held_signals() -> Iterator[None]:
    """Let no handler run within the block; the signals that came in it are raised at its end.

    A handler runs between any two steps of the main thread: one that saves or hashes would wait for a lock that the
    thread below it holds, and Ctrl-C would leave a save half done. Signals that nobody handles end the process as ever.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    handled = {number: handler for number, handler in handlers.items() if callable(handler)}
    try:
        for number in handled:
            signal.signal(number, lambda number, _: came.append(number))
        yield
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)
        for late in dict.fromkeys(came):
            signal.raise_signal(late)
