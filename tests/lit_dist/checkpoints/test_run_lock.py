"""One writer a run."""

import multiprocessing
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
from lightning.pytorch.callbacks import Callback

from lit_dist.callbacks import CyclicalWeightTransfer, RunCheckpoint
from lit_dist.checkpoints.run_lock import BusyError, held
from lit_dist.utils.errors import InputError
from small import fit, ledger

HOLDING = """
from pathlib import Path
from lit_dist.checkpoints.run_lock import held
with held(Path("run")):
    print("held")
"""
FOLDER = Path("run")


@pytest.fixture
def holder() -> Iterator[BaseProcess]:
    """Another process, which holds the folder."""
    context = multiprocessing.get_context("fork")
    begun = context.Event()

    def keep() -> None:
        with held(FOLDER):
            begun.set()
            time.sleep(300)

    process = context.Process(target=keep)
    process.start()
    assert begun.wait(60)
    yield process
    process.kill()
    process.join()


def test_the_second_process_is_told_who_holds_the_run_until_that_is_killed(holder: BaseProcess) -> None:
    told = rf"the run in .*run is held by process {holder.pid} on {socket.gethostname()} since \d{{4}}-\d\d-\d\dT"
    with pytest.raises(BusyError, match=told), held(FOLDER):
        pass
    holder.kill()
    holder.join()
    with held(FOLDER):
        pass


@pytest.mark.slow
def test_a_process_that_the_holder_started_belongs_to_the_run() -> None:
    with held(FOLDER):
        done = subprocess.run([sys.executable, "-c", HOLDING], capture_output=True, text=True, timeout=100)
    assert done.stdout == "held\n", done.stderr


def test_within_a_process_a_run_has_one_writer_too() -> None:
    one, other = object(), object()
    with held(FOLDER, owner=one):
        with held(FOLDER, owner=one):
            for owner in (None, other):
                with pytest.raises(BusyError), held(FOLDER, owner=owner):
                    pass
        with pytest.raises(BusyError), held(FOLDER):
            pass
    with held(FOLDER), held(FOLDER, owner=one):  # a command holds the folder for its trainer
        pass


def test_a_folder_that_cannot_be_locked_is_an_error_that_says_so() -> None:
    FOLDER.write_text("no folder")
    with pytest.raises(InputError, match="run is a file, where a folder is needed"), held(FOLDER):
        pass


class _Meanwhile(Callback):
    """Begins another fit in the folder during one."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
        with pytest.raises(BusyError):
            _fit()
        assert before == {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
        raise KeyError("enough")


def _fit(*callbacks: Callback, **kwargs: Any) -> None:
    fit(CyclicalWeightTransfer(every_n_epochs=1), *callbacks, RunCheckpoint(), **kwargs)


def test_two_fits_have_one_folder_one_after_the_other_only() -> None:
    with pytest.raises(KeyError, match="enough"):
        _fit(_Meanwhile())
    _fit(max_epochs=1)
    _fit(max_epochs=2)
    assert [line["visit"] for line in ledger()] == [0, 0, 1]
