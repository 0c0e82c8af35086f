"""The hash of the settings that decide what a visit does, and the versions of the programs that do it."""

import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import safetensors.torch
import torch
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader, TensorDataset

from lit_dist import ImageClassifier, SiteLoader
from lit_dist.callbacks import CyclicalWeightTransfer
from lit_dist.callbacks.run_settings import versions
from small import SmallModule, ledger, loaders, trainer

HELPERS = Path(__file__).parents[1] / "helpers"


class Configured(SmallModule):
    """A small module with hyper-parameters, a schedule, and rates of its own for some parameters."""

    def __init__(self, lr: float = 0.05, **options: Any) -> None:
        super().__init__(lr)
        self.options = options
        self.save_hyperparameters(options.get("hparams", {}))

    def configure_optimizers(self) -> Any:
        rates = self.options.get("rates", [self.lr] * 4)
        groups = [{"params": part.parameters(), "lr": lr} for part, lr in zip(self.network, rates, strict=True)]
        optimizer = getattr(torch.optim, self.options.get("optimizer", "SGD"))(
            [group for group in groups if group["params"]], lr=self.lr, **self.options.get("arguments", {})
        )
        schedule = getattr(torch.optim.lr_scheduler, self.options.get("scheduler", "ExponentialLR"))
        scheduler = schedule(optimizer, **self.options.get("schedule", {"gamma": 0.5}))
        return [optimizer], [{"scheduler": scheduler, **self.options.get("pace", {})}]


class Other(Configured):
    pass


def settings(
    module: pl.LightningModule | None = None, data: Any = None, run_seed: int = 0, transfer: Any = None, **options: Any
) -> str:
    """The hash that a fit writes."""
    pl.seed_everything(run_seed, verbose=False)
    callback = CyclicalWeightTransfer(**{"every_n_epochs": 1, **(transfer or {})})
    fitting = trainer(callback, **{"max_epochs": 1, "limit_val_batches": 0, **options})
    sites = data or loaders()
    fitting.fit(module or Configured(), SiteLoader(sites), sites["a"])
    [path] = Path().rglob("ledger.jsonl")
    lines = ledger(path.parent)
    path.unlink()
    [found] = {line["settings"] for line in lines}
    assert len(bytes.fromhex(found)) == 32
    return str(found)


SAME: dict[str, Any] = {
    "nothing": lambda: {},
    "the length of the run": lambda: {"max_epochs": 2},
    "its length in steps": lambda: {"max_epochs": -1, "max_steps": 3},
    "the run's folder": lambda: {"default_root_dir": "elsewhere"},
    "the folder of batons": lambda: {"transfer": {"baton_dir": "batons"}},
    "when it validates": lambda: {"transfer": {"validation": "cycle"}, "limit_val_batches": 1},
    "where the seed comes from": lambda: {"transfer": {"seed": 0}, "run_seed": 5},
    "a logger": lambda: {"logger": CSVLogger("logs")},
    "the number of images": lambda: {"data": loaders((3, 5, 1))},
    "the size of batches and workers": lambda: {"data": loaders(num_workers=1)},
}


@pytest.mark.filterwarnings("ignore:max_epochs=.* ends in the middle of a cycle")
@pytest.mark.parametrize("what", SAME)
def test_the_hash_does_not_depend_on(what: str) -> None:
    assert settings(**SAME[what]()) == settings()


DIFFERENT: dict[str, Any] = {
    "the rate": lambda: {"module": Configured(lr=0.06)},
    "the optimizer": lambda: {"module": Configured(optimizer="Adam")},
    "its arguments": lambda: {"module": Configured(arguments={"momentum": 0.9})},
    "the schedule": lambda: {"module": Configured(scheduler="ConstantLR", schedule={})},
    "its interval": lambda: {"module": Configured(pace={"interval": "step"})},
    "its frequency": lambda: {"module": Configured(pace={"frequency": 2})},
    "the module": lambda: {"module": Other()},
    "a hyper-parameter": lambda: {"module": Configured(hparams={"backbone": "resnet18"})},
    "the length of visits": lambda: {"transfer": {"every_n_epochs": 2}},
    "visits of steps": lambda: {"transfer": {"every_n_epochs": None, "every_n_steps": 4}},
    "the order": lambda: {"transfer": {"order": "shuffled"}},
    "an order by names": lambda: {"transfer": {"order": ["b", "a"]}},
    "the state of optimizers": lambda: {"transfer": {"optimizer_state": "carry"}},
    "what divergence does": lambda: {"transfer": {"on_divergence": "skip"}},
    "the seed": lambda: {"run_seed": 1},
    "the seed of the transfer": lambda: {"transfer": {"seed": 2}},
    "the sites": lambda: {"data": loaders((4, 6))},
    "the number of batches a step": lambda: {"accumulate_grad_batches": 2},
    "clipping": lambda: {"gradient_clip_val": 0.5},
    "another clipping": lambda: {"gradient_clip_val": 1.0},
    "how it is clipped": lambda: {"gradient_clip_val": 0.5, "gradient_clip_algorithm": "value"},
    "the precision": lambda: {"precision": "bf16-mixed"},
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_the_hash_depends_on(what: str) -> None:
    assert settings(**DIFFERENT[what]()) != settings()


def test_no_two_of_these_settings_have_one_hash() -> None:
    hashes = [settings(**changed()) for changed in DIFFERENT.values()]
    assert len({*hashes, settings()}) == len(DIFFERENT) + 1


def images() -> dict[str, DataLoader[Any]]:
    data = TensorDataset(torch.zeros(4, 3, 32, 32), torch.tensor([0, 1, 0, 1]))
    return {site: DataLoader(data, batch_size=4) for site in "ab"}


@pytest.mark.parametrize(
    ("options", "same"),
    [
        ({"backbone": "shufflenet_v2_x1_0"}, False),
        ({"backbone": "mobilenet_v3_small", "backbone_kwargs": {"reduced_tail": True}}, False),
        ({"num_classes": 3}, False),
        ({"dropout": 0.3}, False),
        ({"label_smoothing": 0.1}, False),
        ({"class_weights": [1.0, 2.0]}, False),
        ({"weights": "weights.safetensors"}, True),
    ],
)
def test_the_hash_of_a_classifier(options: dict[str, Any], same: bool) -> None:
    first = ImageClassifier("shufflenet_v2_x0_5")
    safetensors.torch.save_file(first.backbone.state_dict(), "weights.safetensors")
    other = ImageClassifier(**{"backbone": "shufflenet_v2_x0_5", **options})
    assert (settings(other, images()) == settings(first, images())) is same


@pytest.mark.slow
def test_two_processes_give_the_same_hash() -> None:
    code = """
from pathlib import Path
from lit_dist.callbacks import CyclicalWeightTransfer
from small import fit, ledger
fit(CyclicalWeightTransfer(every_n_epochs=1, order=["b", "c", "a"]), max_epochs=1)
print(ledger()[0]["settings"])
"""
    environment = {**os.environ, "PYTHONPATH": str(HELPERS), "PYTHONHASHSEED": "3"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=200)
    expected = settings(SmallModule(), transfer={"order": ["b", "c", "a"]})
    assert done.stdout.splitlines()[-1] == expected, done.stderr


def test_the_versions_are_those_of_the_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    assert versions() == {
        "lit_dist": version("lit_dist"),
        "lightning": version("lightning"),
        "torch": version("torch"),
        "python": platform.python_version(),
        "threads": "7",
    }


def test_what_one_does_to_the_versions_does_not_last() -> None:
    versions()["torch"] = "0.1"
    assert versions()["torch"] == version("torch")
