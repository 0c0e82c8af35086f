import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from one_sentence import refused

from lit_dist.utils.errors import InputError
from lit_dist.utils.mistakes import mistake

OWN = {
    "model": {
        "class_path": "ImageClassifier",
        "init_args": {"backbone": "slim_resnet18", "backbone_kwargs": {"width": 8}, "num_classes": 2},
    },
    "data": {"class_path": "PhantomDataModule", "init_args": {"sites": 2, "patients": 24, "size": 32, "batch_size": 8}},
    "trainer": {
        "max_epochs": 2,
        "accelerator": "cpu",
        "enable_progress_bar": False,
        "logger": {"class_path": "CSVLogger", "init_args": {"save_dir": "runs"}},
        "callbacks": [{"class_path": "CyclicalWeightTransfer", "init_args": {"every_n_epochs": 1}}],
    },
}
FIT = ["fit", "--config", "own.yaml"]
CSV = ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=runs"]
ADAM = ["--model.optimizer=torch.optim.Adam"]
SGD = ["--model.optimizer=torch.optim.SGD"]
STEPS = ["--model.lr_scheduler=torch.optim.lr_scheduler.StepLR", "--model.lr_scheduler.step_size=1"]


@pytest.fixture(autouse=True)
def _own() -> None:
    Path("own.yaml").write_text(yaml.safe_dump(OWN))
    Path("file").touch()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([*ADAM, "--model.optimizer.lr=.nan"], "Adam does not take its settings: Invalid learning rate: nan"),
        ([*ADAM, "--model.optimizer.lr=.inf"], "Adam has lr=inf, which is not a finite number"),
        ([*ADAM, "--model.optimizer.betas=[1.5,0.9]"], "Invalid beta parameter at index 0: 1.5"),
        ([*ADAM, "--model.optimizer.weight_decay=.inf"], "Adam has weight_decay=inf"),
        ([*ADAM, "--trainer.precision=16-true"], "Adam has eps=1e-08, which is 0 in float16"),
        ([*SGD, "--model.optimizer.lr=0.1", "--model.optimizer.dampening=.nan"], "SGD has dampening=nan"),
        ([*STEPS, "--model.lr_scheduler.gamma=-1"], "has lr=-0.001"),
        ([*STEPS, "--model.lr_scheduler.step_size=0"], "StepLR does not take its settings: integer modulo by zero"),
        (["--model.lr_scheduler_frequency=0"], "lr_scheduler_frequency=0 is not a positive number"),
        (["--model.class_weights=[.inf,1]"], "are not 2 positive numbers"),
        (["--model.backbone_kwargs.width=0"], "slim_resnet18 cannot be built with {'width': 0}"),
        (["--data.num_workers=-1"], "num_workers=-1 is not a number from 0"),
        (["--data.num_workers=1000000"], "num_workers=1000000 is not a number from 0"),
        (["--data.sites=1000000"], "sites=1000000 is more than 100000"),
        (["--data.patients=1000000000"], "GB of memory, and this machine has"),
        (["--data.val_fraction=.nan"], "leave no patients for training"),
        (["--data.std=[0,1,1]"], "those of std above 0"),
        (["--data.seed=-1"], "seed=-1 is not a number from 0"),
        (["--data.split_seed=-1"], "split_seed=-1 is not a number from 0"),
        (["--data.batch_size=1"], "'site-1' has 17 training images in batches of 1"),
        (["--seed_everything=-1"], "seed_everything=-1 is not a number from 0 to 4294967295"),
        (["--seed_everything=4294967296"], "is not a number from 0 to 4294967295"),
        (["--seed_everything=false"], "a run without a seed"),
        (["--trainer.accumulate_grad_batches=0"], "trainer.accumulate_grad_batches=0 is not a positive number"),
        ([*CSV, "--trainer.logger.name=a\0b"], "the logger's folder 'runs/a"),
        (
            [*CSV, "--trainer.logger.flush_logs_every_n_steps=0"],
            "CSVLogger has flush_logs_every_n_steps=0, which",
        ),
        (["--trainer.max_epochs=0"], "trainer.max_epochs=0 trains nothing"),
        (["--trainer.limit_train_batches=0"], "trainer.limit_train_batches=0 trains nothing"),
        (["--trainer.val_check_interval=0"], "trainer.val_check_interval=0 is not a positive number"),
        (["--trainer.val_check_interval=100"], "`val_check_interval` (100) must be less than"),
        (["--trainer.gradient_clip_val=.nan"], "gradient_clip_val=nan is not a finite number"),
        (["--trainer.devices=1000"], "more processes than this machine can run"),
        (["--trainer.devices=none"], "the trainer cannot be made: `devices` selected"),
        (["--trainer.strategy=dpp"], "the trainer cannot be made: You selected an invalid strategy name"),
        (["--trainer.callbacks+=CyclicalWeightTransfer", "--trainer.callbacks.every_n_epochs=1"], "two transfer"),
        (["--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.monitor=val_f1"], "monitors 'val_f1'"),
        (["--trainer.callbacks.every_n_steps=3"], "only one of them"),
        (["--trainer.callbacks.order=['site-1', 'mars']"], "'mars', which is not one of site-1"),
        (["--trainer.accelerator=gpu"], "No supported gpu backend found!"),
        (["--data.sites=1"], "a transfer needs at least two sites"),
        (["--data.patients=2"], "patients=2"),
        (["--data.splits=nowhere.csv"], "no table at nowhere.csv"),
        (["--model.backbone=resnet35", "--model.backbone_kwargs={}"], "no classification network 'resnet35'"),
        (["--model.weights=nowhere.pth"], "no file of weights at"),
        (["--model.num_classes=3"], "the data has 2 classes, the model 3"),
        (["--trainer.callbacks+=RunCheckpoint"], "more than one stateful callback of type `RunCheckpoint`"),
        (["--trainer.logger.save_dir=file"], "file is a file, where a folder is needed"),
        (["--trainer.logger.save_dir=/dev/null"], "that is a device"),
        (["--trainer.logger.save_dir=" + "x" * 300], "File name too long"),
        (["--trainer.logger.save_dir=" + "x/" * 3000], "File name too long"),
        (["--ckpt_path=best"], "--ckpt_path best: there is no such checkpoint"),
        (["--ckpt_path="], "ckpt_path is empty"),
        (['--data.sites=["a\\nb", c]'], "the site name 'a\\nb' has signs that are not printed"),
        (["--data.sites=[' a', c]"], "the site name ' a' is empty or has blanks"),
    ],
    ids=lambda value: " ".join(value)[-60:] if isinstance(value, list) else "",
)
def test_a_fit_that_cannot_be_ends_in_one_sentence_before_it_trains(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused([*FIT, *words], capsys)
    late = "gamma" in words[-1] or "step_size=0" in words[-1]  # which only the schedule's first step shows
    assert late or not [*Path().glob("**/*.ckpt")]


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
@pytest.mark.parametrize("word", ["last", "best", "hpc"])
def test_nothing_is_judged_by_a_checkpoint_that_is_not_there(
    command: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused([command, "--config", "own.yaml", f"--ckpt_path={word}"], capsys)
    assert said.startswith(f"--ckpt_path {word}: there is no such checkpoint")


@pytest.mark.parametrize("option", ["--data.splits", "--model.weights", "--ckpt_path", "--trainer.default_root_dir"])
def test_no_option_waits_for_a_pipe(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo("pipe")
    assert f"{option} pipe: that is a pipe" in refused([*FIT, option, "pipe"], capsys)


# -- errors of libraries -----------------------------------------------------------------------------------------------


class Own(torch.optim.SGD):
    """A user's own optimizer, with a check of its own, and a step that fails."""

    def __init__(self, parameters: Any, lr: float = 0.1) -> None:
        if lr > 1:
            raise ValueError(f"no learning rate above 1, but {lr}")
        super().__init__(parameters, lr)

    def step(self, closure: Any = None) -> Any:
        raise ValueError("this is a fault of the program")


def raised(do: Any) -> BaseException:
    try:
        do()
    except Exception as error:
        return error
    pytest.fail("nothing was raised")


def test_of_an_own_optimizer_the_constructor_speaks_to_the_user_and_a_step_does_not() -> None:
    weights = [torch.nn.Parameter(torch.ones(1))]
    assert mistake(raised(lambda: Own(weights, 2))) == "Own does not take its settings: no learning rate above 1, but 2"
    assert mistake(raised(Own(weights).step)) is None


class Images(torch.utils.data.Dataset[int]):
    """Whose reading, in a worker, ends in what is given."""

    def __init__(self, end: Any) -> None:
        self.end = end

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        self.end()
        return index


def no_image() -> None:
    raise InputError("scan.png is not an image; remove it")


def of_a_worker(end: Any) -> str:
    """What is said of a fit one of whose workers ends so."""
    return str(mistake(raised(lambda: list(torch.utils.data.DataLoader(Images(end), num_workers=1)))))


@pytest.mark.slow
def test_a_worker_that_was_killed_speaks_of_memory() -> None:
    said = of_a_worker(lambda: os.kill(os.getpid(), 9))
    assert all(word in said for word in ("memory", "num_workers", "batch_size"))


def test_what_a_worker_found_is_said_without_its_traceback() -> None:
    assert of_a_worker(no_image) == "scan.png is not an image; remove it"


@pytest.mark.parametrize(
    ("do", "said"),
    [
        (lambda: np.empty(10**15), "there is not enough memory (Unable to allocate"),
        (lambda: torch.empty(10**15), "there is not enough memory"),
        (lambda: Path("file/x").mkdir(), "file/x: Not a directory"),
        (lambda: torch.nn.BatchNorm1d(3)(torch.ones(1, 3)), "a batch has only one image"),
        (lambda: torch.nn.MaxPool2d(3)(torch.ones(1, 1, 1)), "the images are too small for the network (Given input"),
        (lambda: torch.nn.Conv2d(1, 1, 3)(torch.ones(1, 1, 1, 1)), "the images are too small for the network (Calc"),
    ],
)
def test_what_libraries_say_of_the_machine_is_one_sentence(do: Any, said: str) -> None:
    assert (mistake(raised(do)) or "").startswith(said)


@pytest.mark.parametrize("do", [lambda: {}["a"], lambda: int("x"), lambda: None + 1, lambda: [][0]])  # type: ignore[operator]
def test_faults_of_the_program_keep_their_traceback(do: Any) -> None:
    assert mistake(raised(do)) is None
