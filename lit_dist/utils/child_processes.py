"""Processes that are forked from one which has imported everything, and do not outlive the one that started them."""

import multiprocessing
import os
import threading
from multiprocessing.context import ForkServerContext


def prepared(module: str) -> ForkServerContext:
    """Give processes that are forked from one that has imported a module and done nothing else."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([module])
    return processes


def most_processes() -> int:
    """The greatest number of processes that can be meant on this machine; one more is a slip of the keyboard."""
    return max(256, 8 * (os.cpu_count() or 1))


def end_with_the_parent() -> None:
    """End this process when the one that started it was killed: nobody would collect what it does."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
