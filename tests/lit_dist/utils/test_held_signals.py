"""Signals that come while something is saved or hashed are obeyed after it, and no lock is waited for in a handler."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
import torch

from lit_dist import read_checkpoint
from lit_dist.checkpoints import tensor_file
from lit_dist.checkpoints.baton import write_checkpoint
from lit_dist.utils.held_signals import held_signals
from lit_dist.utils.threads import in_threads


@pytest.fixture
def handled() -> Iterator[list[int]]:
    """The signals that a handler has seen, which itself works in threads."""
    seen: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        in_threads(len, ["a"] * 4)
        seen.append(number)

    before = signal.signal(signal.SIGUSR1, handle)
    yield seen
    assert signal.signal(signal.SIGUSR1, before) is handle


def test_a_signal_is_obeyed_once_at_the_end_of_the_block(handled: list[int]) -> None:
    with held_signals():
        os.kill(os.getpid(), signal.SIGUSR1)
        with held_signals():
            os.kill(os.getpid(), signal.SIGUSR1)
        assert handled == []
    assert handled == [signal.SIGUSR1]


def test_work_in_threads_is_not_interrupted(handled: list[int]) -> None:
    def tell(item: int) -> int:
        os.kill(os.getpid(), signal.SIGUSR1)
        return len(handled)

    assert in_threads(tell, range(20)) == [0] * 20
    assert handled == [signal.SIGUSR1]


def test_ctrl_c_in_the_middle_of_a_save_leaves_a_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tensor_file.write

    def interrupted(*args: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        whole(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(tensor_file, "write", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            write_checkpoint({"state_dict": {"weight": torch.ones(2)}}, tmp_path / "saved.ckpt")
    finally:
        signal.signal(signal.SIGINT, before)
    assert list(read_checkpoint(tmp_path / "saved.ckpt")["state_dict"]) == ["weight"]


def test_other_threads_hold_nothing_back(handled: list[int]) -> None:
    def held() -> None:
        with held_signals():
            seen.append(signal.getsignal(signal.SIGUSR1))

    seen: list[object] = []
    thread = threading.Thread(target=held)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGUSR1)]
