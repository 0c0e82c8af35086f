"""The hash of the settings that decide what a visit does, and the versions of the programs that do it."""

import os
import platform
import subprocess
import sys
import types
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import safetensors.torch
import torch
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    EMAWeightAveraging,
    ModelCheckpoint,
    ModelSummary,
    Timer,
    WeightAveraging,
)
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader, TensorDataset

from lit_dist import (
    ImageClassifier,
    InputError,
    SafetensorsCheckpointIO,
    SiteLoader,
    newest_checkpoint,
    read_checkpoint,
)
from lit_dist.callbacks import CyclicalWeightTransfer, RunCheckpoint
from lit_dist.checkpoints.baton import write_checkpoint
from lit_dist.provenance.plain_values import plain_json
from lit_dist.provenance.run_settings import callback_settings, versions
from small import SmallData, SmallModule, ledger, loaders, trainer

HELPERS = Path(__file__).parents[2] / "helpers"


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


class Proximal(Callback):
    """Keeps its argument under its name, as most do; or under another."""

    def __init__(self, mu: float, other_name: bool = False) -> None:
        self.other_name = other_name
        if other_name:
            self.strength = mu
        else:
            self.mu = mu


class Watching(Callback):
    takes_part = False

    def __init__(self, where: str) -> None:
        self.where = where


class Open(Callback):
    rate = 0.1

    def __init__(self, every: int = 1, *more: float, **options: Any) -> None:
        self.every, self._more, self._options = every, more, options


class Later(Callback):
    rate = 0.1

    def __init__(self, every: int = 1) -> None:
        self.every, self.strength = every, 0.1
        self.count = 0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.seen = self.count

    def on_train_batch_start(self, *args: Any) -> None:
        self.count += 1


class Saving(ModelCheckpoint):
    def __init__(self, rate: float, **options: Any) -> None:
        super().__init__(**options)
        self.rate = rate


def later(strength: float) -> Later:
    callback = Later()
    callback.strength = strength
    return callback


OWN: dict[str, Any] = {
    "*args": lambda v: Open(1, v),
    "**kwargs": lambda v: Open(rate=v),
    "an attribute that is no argument": later,
    "a class attribute": lambda v: type("Sub", (Later,), {"rate": v})(),
    "Lightning's **kwargs": lambda v: WeightAveraging(avg_fn=lambda average, new, number: v * average),
    "a watcher of one's own": Saving,
    "a timer of one's own": lambda v: type("Sub", (Timer,), {"rate": v})(),
}


@pytest.mark.parametrize("make", OWN.values(), ids=OWN)
def test_a_callback_counts_with_all_its_settings(make: Any) -> None:
    fitting = [trainer(make(value)) for value in (0.1, 0.1, 0.2)]
    for each in fitting:
        each.strategy.connect(SmallModule())
    one, same, other = map(callback_settings, fitting)
    assert one
    assert one == same != other


@pytest.mark.parametrize("make", [lambda: later(0.1), lambda: Proximal(0.1)])
def test_between_two_fits_a_changed_setting_counts_and_what_training_has_changed_does_not(make: Any) -> None:
    callback = make()
    first, again = settings(others=[callback]), settings(others=[callback])
    setattr(callback, "mu" if isinstance(callback, Proximal) else "strength", 0.2)
    changed = settings(others=[callback])
    assert first == again != changed == settings(others=[callback])


def test_where_a_watcher_of_ones_own_writes_does_not_count() -> None:
    fitting = [trainer(Saving(0.1, dirpath=place)) for place in "ab"]
    for each in fitting:
        each.strategy.connect(SmallModule())
    assert callback_settings(fitting[0]) == callback_settings(fitting[1])


def settings(
    module: pl.LightningModule | None = None,
    data: Any = None,
    run_seed: int = 0,
    transfer: Any = None,
    others: Sequence[Callback] = (),
    **options: Any,
) -> str:
    """The hash that a fit writes."""
    pl.seed_everything(run_seed, verbose=False)
    callback = CyclicalWeightTransfer(**{"every_n_epochs": 1, **(transfer or {})})
    fitting = trainer(callback, *others, **{"max_epochs": 1, "limit_val_batches": 0, **options})
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
    "callbacks that only watch": lambda: {"others": [EarlyStopping("train_loss"), Watching("here"), ModelSummary(0)]},
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
    "a callback": lambda: {"others": [Proximal(0.0)]},
    "its argument": lambda: {"others": [Proximal(5.0)]},
    "an argument that it keeps by another name": lambda: {"others": [Proximal(5.0, other_name=True)]},
    "the value of that": lambda: {"others": [Proximal(6.0, other_name=True)]},
    "a callback of Lightning's": lambda: {"others": [EMAWeightAveraging(decay=0.9)]},
    "its decay": lambda: {"others": [EMAWeightAveraging(decay=0.99)]},
    "the value of a tensor": lambda: {"module": Configured(hparams={"weight": torch.tensor([1.0, 2.0])})},
    "another value": lambda: {"module": Configured(hparams={"weight": torch.tensor([1.0, 3.0])})},
    "keys that are no text": lambda: {"module": Configured(hparams={"weight": {0: 1.0, "other": 2.0}})},
    "an argument of the schedule": lambda: {"module": Configured(schedule={"gamma": 0.1})},
    "the length of the schedule's steps": lambda: {"module": Configured(scheduler="StepLR", schedule={"step_size": 2})},
    "how many batches count": lambda: {"limit_train_batches": 1},
    "the precision": lambda: {"precision": "bf16-mixed"},
}


@pytest.mark.slow
def test_each_of_these_settings_has_a_hash_of_its_own() -> None:
    by_hash = {settings(): "none of them"}
    for what, changed in DIFFERENT.items():
        assert by_hash.setdefault(settings(**changed()), what) == what


def test_what_an_ordinary_run_has_is_hashed_as_older_releases_did() -> None:
    callback = CyclicalWeightTransfer(every_n_epochs=1)
    trainer(callback, ModelSummary(0), max_epochs=1).fit(SmallModule(), SmallData())
    assert callback.settings_sha256 == callback.settings_by(1)


def test_a_run_resumes_by_the_rule_with_which_it_has_begun() -> None:
    callback = CyclicalWeightTransfer(every_n_epochs=1)
    trainer(callback, Proximal(5.0), RunCheckpoint(), max_epochs=1).fit(SmallModule(), SmallData())
    old, new = callback.settings_by(1), callback.settings_sha256
    assert old != new
    path = newest_checkpoint(Path())
    assert path is not None
    checkpoint = read_checkpoint(path)
    del checkpoint["callbacks"][callback.state_key]["record"]["rule"]  # as older releases left it
    write_checkpoint(checkpoint, path)
    resumed = trainer(CyclicalWeightTransfer(every_n_epochs=1), Proximal(5.0), RunCheckpoint(), max_epochs=2)
    resumed.fit(SmallModule(), SmallData(), ckpt_path=path)
    assert [line["settings"] for line in ledger()] == [new, old]


@pytest.mark.parametrize("value", [Proximal(1.0), SmallModule, object(), {"a": [object()]}, {"self": ...}])
@pytest.mark.parametrize("callback", [RunCheckpoint, lambda: CyclicalWeightTransfer(every_n_epochs=1)])
def test_a_hyperparameter_that_no_checkpoint_can_hold_is_refused_before_training(value: Any, callback: Any) -> None:
    if value == {"self": ...}:
        value["self"] = value
    fitting = trainer(callback(), plugins=[SafetensorsCheckpointIO()])
    with pytest.raises(InputError, match=r"Configured has a hyperparameter 'thing' .*\(ignore=\['thing'\]\)"):
        fitting.fit(Configured(hparams={"thing": value}), SmallData())
    assert fitting.global_step == 0


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


VALUES = "[{'a', 'b', 'c', ('d', 1)}, types.SimpleNamespace(x={1, 'y'}), lambda: 3, print]"
PROCESS = f"""
import types
from lit_dist.callbacks import CyclicalWeightTransfer
from lit_dist.provenance.plain_values import plain_json
from small import fit, ledger
fit(CyclicalWeightTransfer(every_n_epochs=1, order=["b", "c", "a"]), max_epochs=1)
print(ledger()[0]["settings"])
print(plain_json({VALUES}))
"""


@pytest.mark.slow
def test_two_processes_give_the_same_hash_and_the_same_text_of_values() -> None:
    search = os.pathsep.join([str(HELPERS), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": search, "PYTHONHASHSEED": "3"}
    done = subprocess.run([sys.executable, "-c", PROCESS], env=environment, capture_output=True, text=True, timeout=200)
    expected = settings(SmallModule(), transfer={"order": ["b", "c", "a"]})
    assert done.stdout.splitlines()[-2:] == [
        expected,
        plain_json(eval(VALUES, {"types": types, "__name__": "__main__"})),
    ], done.stderr


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
