"""Letting go of what was sent, which an engine may leave in circles of references."""

import functools
import gc


def collect_garbage() -> None:
    """Free what nothing uses any more, at once.

    What FLARE has sent is as large as the weights, and Python by itself may not look for it before many visits later.
    """
    _freeze()
    gc.collect()


@functools.cache
def _freeze() -> None:
    # To look each time through what is there for good would take a third of a second.
    gc.collect()
    gc.freeze()
