"""Settings of somebody else: what is not a class of the kind that a setting wants is refused before it is called."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lit_dist import InputError
from lit_dist.cli.main import main
from lit_dist.runs.lightning_cli import build

RAN = Path("ran")
CODE = f"__import__('os').system('touch {RAN}')"
SYSTEM = {"class_path": "os.system", "init_args": {"command": f"touch {RAN}"}}
LAMBDA = {"class_path": "sympy.core.function.Lambda", "init_args": {"signature": "x", "expr": CODE}}
BUILT = {"class_path": "torch.utils.cpp_extension.load_inline", "init_args": {"name": "x", "cpp_sources": ""}}
WRITER = {"class_path": "numpy.memmap", "init_args": {"filename": str(RAN), "mode": "w+", "shape": 9}}


def settings(**arguments: Any) -> dict[str, Any]:
    network = {"backbone": "slim_resnet18", "backbone_kwargs": {"width": 8}, **arguments}
    return {
        "model": {"class_path": "ImageClassifier", "init_args": network},
        "data": {"class_path": "PhantomDataModule", "init_args": {"sites": 2, "patients": 24, "size": 32}},
        "trainer": {"accelerator": "cpu", "logger": False, "callbacks": []},
    }


def scheduled(lr_lambda: Any) -> dict[str, Any]:
    name = "torch.optim.lr_scheduler.LambdaLR"
    return settings(lr_scheduler={"class_path": name, "init_args": {"lr_lambda": lr_lambda}})


def with_callback(name: str, **arguments: Any) -> dict[str, Any]:
    given = settings()
    given["trainer"]["callbacks"] = [{"class_path": f"lightning.pytorch.callbacks.{name}", "init_args": arguments}]
    return given


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (settings(optimizer=SYSTEM), "os.system"),
        (settings(optimizer=json.dumps(SYSTEM)), "os.system"),
        (settings(optimizer=BUILT), "is not a class; give a class of the kind Optimizer"),
        (settings(optimizer=json.dumps(BUILT)), "is not a class; give a class of the kind Optimizer"),
        (settings(lr_scheduler=BUILT), "is not a class; give a class of the kind LRScheduler or ReduceLROnPlateau"),
        (settings(optimizer=WRITER), "numpy.memmap"),
        (scheduled(LAMBDA), "sympy"),
        (scheduled([json.dumps(LAMBDA)]), "sympy"),
        (scheduled(BUILT), r"lr_lambda names .*, which is not a class"),
        (scheduled([BUILT]), r"lr_lambda\[0\] names .*, which is not a class"),
        (with_callback("LambdaCallback", on_fit_start=BUILT), r"on_fit_start names .*, which is not a class"),
        (with_callback("BackboneFinetuning", lambda_func=LAMBDA), "sympy"),
        (settings(backbone_kwargs={"width": SYSTEM}), "os.system"),
    ],
)
def test_what_is_no_class_of_the_kind_is_refused_before_it_is_called(
    given: dict[str, Any], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises((InputError, SystemExit, ValueError)) as refused:
        build(given)
    assert re.search(message, f"{refused.value} {capfd.readouterr().err}")
    assert not RAN.exists()


def test_it_is_refused_in_a_file_of_somebody_else_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    Path("c.yaml").write_text(yaml.safe_dump(settings(optimizer=BUILT)))
    with pytest.raises(SystemExit):
        main(["fit", "--config", "c.yaml"])
    said = "lit-dist: model.init_args.optimizer names 'torch.utils.cpp_extension.load_inline', which is not a class;"
    assert said in capsys.readouterr().err


def test_classes_of_the_users_own_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs.py").write_text(
        "import torch\n"
        "class Slow(torch.optim.SGD): pass\n"
        "def halved(epoch: int) -> float: return 0.5 ** epoch\n"
        "def made(params) -> torch.optim.Optimizer: return torch.optim.SGD(params, lr=1.0)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    slow = {"class_path": "theirs.Slow", "init_args": {"lr": 0.5}}
    lambdas = {"class_path": "torch.optim.lr_scheduler.LambdaLR", "init_args": {"lr_lambda": "theirs.halved"}}
    model: Any = build(settings(optimizer=slow, lr_scheduler=lambdas)).model
    optimizer = model.optimizer([torch.nn.Parameter(torch.zeros(1))])
    assert (type(optimizer).__name__, model.lr_scheduler(optimizer).get_last_lr()) == ("Slow", [0.5])
    model = build(settings(optimizer="theirs.made")).model
    assert isinstance(model.configure_optimizers(), torch.optim.SGD)
