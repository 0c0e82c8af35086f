from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from lit_dist import InputError
from lit_dist.checkpoints.baton import write_checkpoint
from lit_dist.models.stored_module import stored_module


class Own(pl.LightningModule):
    def __init__(self, width: int, depth: int = 1, name: str = "own") -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layers = nn.Sequential(*(nn.Linear(width, width) for _ in range(depth)))


def stored(module: pl.LightningModule, **settings: Any) -> Path:
    hyperparameters = {**module.hparams, **settings}
    write_checkpoint({"state_dict": module.state_dict(), "hyper_parameters": hyperparameters}, Path("own.ckpt"))
    return Path("own.ckpt")


def test_the_module_has_the_weights_and_settings_of_the_file() -> None:
    module = Own(3, depth=2)
    again = stored_module(Own, stored(module))
    assert isinstance(again, Own)
    assert dict(again.hparams) == {"width": 3, "depth": 2, "name": "own"}
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in again.state_dict().items())


def test_given_arguments_go_before_those_of_the_file() -> None:
    assert stored_module(Own, stored(Own(3)), name="other").hparams["name"] == "other"


def test_what_lightning_keeps_among_the_settings_for_itself_is_left_out() -> None:
    path = stored(Own(3), _class_path="somewhere.Own", _instantiator="lightning.pytorch.cli.instantiate_module")
    assert dict(stored_module(Own, path).hparams) == {"width": 3, "depth": 1, "name": "own"}


def test_a_file_without_settings_makes_the_module_of_the_given_ones() -> None:
    module = Own(3)
    write_checkpoint({"state_dict": module.state_dict()}, Path("bare.ckpt"))
    assert stored_module(Own, "bare.ckpt", width=3).layers[0].weight.equal(module.layers[0].weight)
    with pytest.raises(InputError, match=r"bare.ckpt does not hold a Own: .*'width'"):
        stored_module(Own, "bare.ckpt")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 4}, "another shape or dtype: layers.0.bias"),
        ({"depth": 2}, "lacks: layers.1.bias"),
        ({"depth": 0}, "has unknown tensors: layers.0.bias"),
        ({"colour": "red"}, r"own.ckpt does not hold a Own: .*'colour'"),
    ],
)
def test_settings_that_do_not_fit_the_weights_are_refused(settings: dict[str, Any], message: str) -> None:
    path = stored(Own(3))
    with pytest.raises(InputError, match=message):
        stored_module(Own, path, **settings)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(InputError, match=r"nowhere.ckpt cannot be read"):
        stored_module(Own, "nowhere.ckpt")
