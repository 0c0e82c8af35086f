"""Work on several cores: all of it done, in order, and no thread left."""

import threading
import time

import pytest

from lit_dist.utils.threads import in_threads


def test_results_come_in_the_order_of_the_items_whoever_is_quicker() -> None:
    def slow_first(item: int) -> int:
        time.sleep(0.05 if item == 0 else 0)
        return item * item

    assert in_threads(slow_first, range(50)) == [item * item for item in range(50)]
    assert in_threads(slow_first, []) == []


def test_several_threads_work_and_none_is_left() -> None:
    both = threading.Barrier(2, timeout=20)  # broken if only one thread comes to it
    in_threads(lambda _: both.wait(), range(2))
    before = threading.active_count()
    in_threads(lambda _: time.sleep(0.01), range(8))
    assert threading.active_count() == before


def test_no_thread_is_started_for_what_is_small() -> None:
    own = threading.get_ident()
    assert {*in_threads(lambda _: threading.get_ident(), range(50), 1000)} == {own}
    both = threading.Barrier(2, timeout=20)
    in_threads(lambda _: both.wait(), range(2), 10**7)


@pytest.mark.parametrize("bad", [0, 7, 49])
def test_an_error_reaches_the_caller(bad: int) -> None:
    def fail(item: int) -> None:
        if item == bad:
            raise ValueError(f"item {item}")

    with pytest.raises(ValueError, match=f"item {bad}"):
        in_threads(fail, range(50))
